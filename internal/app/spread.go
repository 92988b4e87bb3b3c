package app

import (
	"cmp"
	"slices"
	"strings"
)

// member is a process of the fleet as it describes itself.
type member struct {
	Queue   string        `json:"-"`
	Worker  string        `json:"worker"`
	Ready   bool          `json:"ready,omitempty"`   // it takes tasks of Temporal
	Ending  bool          `json:"ending,omitempty"`  // it takes no more hot paths
	WAL     bool          `json:"wal,omitempty"`     // it has a directory for a journal
	State   int           `json:"state,omitempty"`   // the highest state format that it reads; see reads
	Older   bool          `json:"older,omitempty"`   // it has of late seen one that reads no state pages; see settles
	Seats   []seat        `json:"seats,omitempty"`   // its hot paths
	Refused []refusedMove `json:"refused,omitempty"` // moves that it has tried in vain of late

	Asks   []archiveAsk   `json:"asks,omitempty"`   // which archive do others see in these directories
	Sights []archiveSight `json:"sights,omitempty"` // its answers to what others ask

	// Slow is the longest time between its beats of late, where that is long because it gets little of the processor.
	Slow int64 `json:"slow_ms,omitempty"`
}

// seat is a hot path of a process.
type seat struct {
	Pipeline string `json:"pipeline"`
	Replica  int    `json:"replica"`
	Journal  bool   `json:"journal,omitempty"` // it needs a directory for its journal
	Steady   bool   `json:"steady,omitempty"`  // nothing is under way or in trouble, so it may move
}

// refusedMove is a process that did not take a pipeline's hot path.
type refusedMove struct {
	Pipeline string `json:"pipeline"`
	To       string `json:"to"`
}

// move takes one hot path from a process to another.
type move struct {
	pipeline string
	replica  int
	from, to string // host queues
	worker   string // name of the latter
	here     int    // hot paths of the pipeline where it is
	there    int    // and where it goes
	all      int    // all hot paths where it is
	allThere int    // and where it goes
}

// nextMove returns the one move that spreads the fleet's hot paths better, if there is one. A move is one from a process that has at
// least two more of the pipeline than the other, or one more while it has at least two more in all. So every move makes the sum
// over pipelines and processes of the squares of their hot paths smaller, or leaves it and makes that over processes smaller: a
// sequence of moves ends, and never comes back. It is a function of what the members say, in whatever order: all members that
// see the same come to the same move, and only the one that has the hot path acts.
//
// Nothing moves while a process ends, since its hot paths are about to come. Those of a pipeline that has one in trouble stay.
func nextMove(members []member) (move, bool) {
	if slices.ContainsFunc(members, func(m member) bool { return m.Ending }) {
		return move{}, false
	}
	var best move
	found := false
	for i := range members {
		for _, s := range members[i].Seats {
			for j := range members {
				m, ok := weigh(members, i, j, s)
				if ok && (!found || better(m, best)) {
					best, found = m, true
				}
			}
		}
	}
	return best, found
}

// weigh returns the move of a seat from the i-th member to the j-th, if it makes things better.
func weigh(members []member, i, j int, s seat) (move, bool) {
	from, to := &members[i], &members[j]
	m := move{
		pipeline: s.Pipeline, replica: s.Replica, from: from.Queue, to: to.Queue, worker: to.Worker,
		here: from.seatsOf(s.Pipeline), there: to.seatsOf(s.Pipeline), all: len(from.Seats), allThere: len(to.Seats),
	}
	spreads := m.here-m.there >= 2 || m.here-m.there == 1 && m.all-m.allThere >= 2
	possible := i != j && from.Ready && to.Ready && (to.WAL || !s.Journal) && !refusedBefore(members, s.Pipeline, to.Queue)
	return m, spreads && possible && steady(members, s.Pipeline)
}

// better orders moves: the pipeline that is spread worst first, then the process that has most, then names.
func better(a, b move) bool {
	return cmp.Or(
		cmp.Compare(b.here-b.there, a.here-a.there), cmp.Compare(b.all-b.allThere, a.all-a.allThere),
		strings.Compare(a.pipeline, b.pipeline), cmp.Compare(a.replica, b.replica),
		strings.Compare(a.from, b.from), strings.Compare(a.to, b.to),
	) < 0
}

func (m *member) seatsOf(pipeline string) (n int) {
	for _, s := range m.Seats {
		if s.Pipeline == pipeline {
			n++
		}
	}
	return n
}

// steady reports whether all hot paths of a pipeline are.
func steady(members []member, pipeline string) bool {
	for _, m := range members {
		for _, s := range m.Seats {
			if s.Pipeline == pipeline && !s.Steady {
				return false
			}
		}
	}
	return true
}

func refusedBefore(members []member, pipeline, to string) bool {
	return slices.ContainsFunc(members, func(m member) bool { return slices.Contains(m.Refused, refusedMove{pipeline, to}) })
}
