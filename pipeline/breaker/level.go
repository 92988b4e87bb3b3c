package breaker

import "fmt"

// Level says how the pipeline goes on.
type Level int

// Levels, in rising order of trouble.
const (
	Normal    Level = iota // commits go to the dependency
	Journal                // the dependency is away, or commits still wait in the journal: commits go there
	Throttled              // as Journal, and the journal is over its soft limit: intake is slowed down
	Paused                 // the journal cannot take more, or there is none: no intake
)

var levels = [...]string{Normal: "normal", Journal: "journal", Throttled: "throttled", Paused: "paused"}

func (l Level) String() string {
	if l < 0 || int(l) >= len(levels) {
		return fmt.Sprintf("level %d", int(l))
	}
	return levels[l]
}

// MarshalText returns the level's name.
func (l Level) MarshalText() ([]byte, error) {
	if l < 0 || int(l) >= len(levels) {
		return nil, fmt.Errorf("breaker: there is no level %d", int(l))
	}
	return []byte(levels[l]), nil
}

// UnmarshalText takes a level's name.
func (l *Level) UnmarshalText(text []byte) error {
	for i, name := range levels {
		if name == string(text) {
			*l = Level(i)
			return nil
		}
	}
	return fmt.Errorf("breaker: level is %q; want one of %q", text, levels)
}

// Override is what an operator orders instead of what the machine would decide.
type Override string

// Overrides. They last until the next one.
const (
	Automatic  Override = ""      // the machine decides
	Hold       Override = "hold"  // level and Direct stay as they are
	ForceOpen  Override = "open"  // as if the breaker were open, whatever the probes say
	ForceClose Override = "close" // as if the breaker were closed, whatever the counts say
)

// ParseOverride takes what people write: auto (or nothing), hold, open, close.
func ParseOverride(s string) (Override, error) {
	switch o := Override(s); o {
	case "auto":
		return Automatic, nil
	case Automatic, Hold, ForceOpen, ForceClose:
		return o, nil
	}
	return Automatic, fmt.Errorf("breaker: override is %q; want auto, hold, open or close", s)
}
