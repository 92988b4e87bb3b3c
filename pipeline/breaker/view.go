package breaker

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/pipeline/report"
)

// view is what a level is decided on.
type view struct {
	open    bool // the breaker is not closed, or the operator says that it is open
	journal bool // there is a journal
	waits   bool // commits wait in it
	soft    bool // it is over its soft limit
	hard    bool // it cannot take more
}

// level decides. A full journal is nobody's trouble while nothing has to go through it: the log is shared by all pipelines of
// a worker.
func (v view) level() report.Level {
	switch {
	case v.open && !v.journal:
		return report.LevelPaused
	case !v.open && !v.waits:
		return report.LevelNormal
	case v.hard:
		return report.LevelPaused
	case v.soft:
		return report.LevelThrottled
	}
	return report.LevelJournal
}

// latch is a condition that holds at once and ends only when it has been over for a while.
type latch struct {
	on   bool
	over time.Time // since when it has been over without a break, zero when it is not
}

func (l *latch) set(now time.Time, holds, over bool, calm time.Duration) bool {
	switch {
	case holds:
		*l = latch{on: true}
	case !l.on:
	case !over:
		l.over = time.Time{}
	case l.over.IsZero():
		l.over = now
	case now.Sub(l.over) >= calm:
		*l = latch{}
	}
	return l.on
}

// latches smooth what the journal says.
type latches struct{ waits, soft, hard latch }

func (l *latches) view(now time.Time, s Storage, t *Thresholds) view {
	softBelow := float64(s.SoftLimit) * (1 - t.Margin)
	hardBelow := float64(s.HardLimit) - float64(s.HardLimit-s.SoftLimit)*t.Margin
	return view{
		journal: s.Journal,
		waits:   l.waits.set(now, s.PendingCommits > 0, true, t.Calm),
		soft:    l.soft.set(now, s.Soft || s.Hard, s.SoftLimit == 0 || float64(s.Used) <= softBelow, t.Calm),
		hard:    l.hard.set(now, s.Hard, s.HardLimit == 0 || float64(s.Used) <= hardBelow, t.Calm),
	}
}

// cause is why something happened, with the numbers it was decided on.
type cause struct {
	text    string
	numbers map[string]float64
}

// measured are the numbers, by name.
func (c *cause) measured() []report.LevelNumber {
	var all []report.LevelNumber
	for _, name := range slices.Sorted(maps.Keys(c.numbers)) {
		all = append(all, report.LevelNumber{Name: name, Value: c.numbers[name]})
	}
	return all
}

// explain says why the level went from one to another. was and is are what the last two looks saw, breaker is why the breaker is as it is.
func explain(from, to report.Level, was, is view, s Storage, breaker cause) cause {
	c := cause{numbers: map[string]float64{}}
	if s.Journal || s.HardLimit > 0 {
		c.numbers["wal_used_bytes"] = float64(s.Used)
		c.numbers["wal_soft_limit_bytes"] = float64(s.SoftLimit)
		c.numbers["wal_hard_limit_bytes"] = float64(s.HardLimit)
		c.numbers["pending_commits"] = float64(s.PendingCommits)
		c.numbers["pending_bytes"] = float64(s.PendingBytes)
	}
	if to == from {
		return c
	}
	add := func(text string) {
		if c.text != "" {
			c.text += "; "
		}
		c.text += text
	}
	asBreaker := func() {
		add(breaker.text)
		maps.Copy(c.numbers, breaker.numbers)
	}
	if to.Rank() > from.Rank() {
		switch {
		case is.open && (from == report.LevelNormal || !was.open):
			asBreaker()
		case from == report.LevelNormal:
			add(fmt.Sprintf("%d commits wait in the journal", s.PendingCommits))
		}
		switch {
		case is.open && !is.journal:
			add("there is no journal")
		case to == report.LevelPaused:
			add("the journal is at its hard limit, out of space or failed")
		case to == report.LevelThrottled:
			add("the journal is over its soft limit")
		}
		return c
	}
	switch {
	case to == report.LevelNormal && was.waits:
		add("the journal is drained")
	case to == report.LevelNormal:
		asBreaker()
	case !was.journal && is.journal:
		add("there is a journal now")
	case was.open && !was.journal: // paused for want of a journal, and what an earlier policy left there still waits
		asBreaker()
	case to == report.LevelThrottled:
		add("the journal can take more again")
	default:
		add("the journal is below its soft limit again")
	}
	return c
}
