package report

import (
	"fmt"
	"time"
)

// LevelChange is one move of a dependency's level, or of the operator's override.
type LevelChange struct {
	Seq        int64         `json:"seq"` // counts the changes of one state machine, from 1
	At         time.Time     `json:"at"`
	Replica    int           `json:"replica"`
	Dependency string        `json:"dependency"`
	From       Level         `json:"from"`
	To         Level         `json:"to"`
	Reason     string        `json:"reason"`
	Numbers    []LevelNumber `json:"numbers,omitempty"` // what was measured, at most contract.MaxLevelNumbers
	Override   Override      `json:"override,omitempty"`
}

// LevelNumber is one measured value behind a change, such as error_rate 0.93 with limit 0.8.
type LevelNumber struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
}

// LevelStatus is where a state machine stands.
type LevelStatus struct {
	Level    Level     `json:"level"`
	Since    time.Time `json:"since"`
	Seq      int64     `json:"seq"` // of the latest change
	Reason   string    `json:"reason,omitempty"`
	Override Override  `json:"override,omitempty"`
	Breaker  string    `json:"breaker,omitempty"` // closed, open, half-open
}

// DependencyStatus is the level that one dependency of a hot path or closer is at.
type DependencyStatus struct {
	Dependency string    `json:"dependency"`
	Level      Level     `json:"level"`
	Since      time.Time `json:"since"`
	Reason     string    `json:"reason,omitempty"`
	Override   Override  `json:"override,omitempty"`
	Worker     string    `json:"worker,omitempty"`
}

// LevelOrder is an operator's override of a dependency's level on all workers of a pipeline, those included that run it later. It
// is part of the desired state, and lasts until auto.
type LevelOrder struct {
	Dependency string    `json:"dependency"`
	Override   Override  `json:"override"` // hold, open, close
	By         string    `json:"by"`
	Reason     string    `json:"reason,omitempty"`
	At         time.Time `json:"at"`
}

// Level says how a pipeline goes on because of one dependency.
type Level string

// Levels lists the levels, in rising order of trouble.
func Levels() []Level { return []Level{LevelNormal, LevelJournal, LevelThrottled, LevelPaused} }

// Rank orders levels from normal, 0, to paused. An unknown level is above all; no level at all is normal.
func (l Level) Rank() int {
	switch l {
	case LevelNormal, "":
		return 0
	case LevelJournal:
		return 1
	case LevelThrottled:
		return 2
	case LevelPaused:
		return 3
	}
	return 4
}

// Override is what an operator orders instead of what a state machine would decide. It lasts until the next one.
type Override string

// OverrideNone lets the state machine decide.
const OverrideNone Override = ""

// ParseOverride takes what people write: auto (or nothing), hold, open, close.
func ParseOverride(text string) (Override, error) {
	switch o := Override(text); o {
	case "auto":
		return OverrideNone, nil
	case OverrideNone, OverrideHold, OverrideOpen, OverrideClose:
		return o, nil
	}
	return OverrideNone, fmt.Errorf("override is %q; want auto, hold, open or close", text)
}
