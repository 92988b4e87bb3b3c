package app

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"millrace/internal/contract"
	"millrace/pipeline/store"
)

// fleetWatch judges what a process sees of its fleet in Redis: who is gone, and whether the fleet has come to rest. It compares
// no clocks, only whether others beat while this process's own beats succeed. One goroutine uses it.
type fleetWatch struct {
	self  string
	since time.Time // from when on this process's beats have succeeded without a gap
	last  time.Time // its last one
	known map[string]*sighting
	shape string    // who has which hot paths
	still time.Time // since when it has been that

	lastOld time.Time            // when a process was last there that does not read state pages
	told    map[string]time.Time // by process that has seen such a one of late: when it last said so
}

// sighting is what is known of another process.
type sighting struct {
	present store.Present
	body    member
	version int64     // of the body
	changed time.Time // when its beat was last seen to change
	alive   bool      // it was seen to beat since this process's beats succeed
}

func newFleetWatch(self string) *fleetWatch {
	return &fleetWatch{self: self, known: make(map[string]*sighting), told: make(map[string]time.Time)}
}

// ownGap is how far apart this process's beats may be. After more than that it may have been frozen, or Redis was away: then
// everybody else's silence says nothing, and all begin anew.
const ownGap = contract.GoneAfter / 2

// see takes what a beat of this process was answered with, and returns the processes whose bodies are to be read.
func (w *fleetWatch) see(now time.Time, all []store.Present) (unread []string) {
	begun := w.last.IsZero() || now.Sub(w.last) > ownGap
	if begun {
		w.since, w.still = now, now
	}
	w.last = now
	for id, s := range w.known {
		if begun {
			s.alive, s.changed = false, now
		}
		if !slices.ContainsFunc(all, func(p store.Present) bool { return p.ID == id }) {
			delete(w.known, id)
		}
	}
	for _, p := range all {
		s := w.known[p.ID]
		switch {
		case s == nil:
			s = &sighting{present: p, changed: now, alive: !begun, version: -1}
			w.known[p.ID] = s
		case p.Beat != s.present.Beat:
			// What it wrote before the gap is no sign of life.
			s.present, s.changed, s.alive = p, now, s.alive || !begun
		}
		if s.version != p.Version {
			unread = append(unread, p.ID)
		}
	}
	return unread
}

// learn takes the body of a process.
func (w *fleetWatch) learn(id string, body member) {
	if s := w.known[id]; s != nil {
		body.Queue = id
		s.body, s.version = body, s.present.Version
	}
}

// others lists what the other processes say of themselves, those with a body that was not read yet with their queue alone.
func (w *fleetWatch) others() []member {
	var all []member
	for id, s := range w.known {
		if id != w.self {
			m := s.body
			m.Queue = id
			all = append(all, m)
		}
	}
	return all
}

// gone returns the processes that must be gone. One that was seen to beat is, after GoneAfter without a beat, or after twice the
// time that it says its beats may take. One that was not may just
// take longer than this process to find back to Redis. One whose body was not read yet is left until it was.
func (w *fleetWatch) gone(now time.Time) (all []*sighting) {
	for id, s := range w.known {
		limit := contract.StrangerGoneAfter
		if s.alive {
			slow := 2 * time.Duration(s.body.Slow) * time.Millisecond
			limit = min(max(contract.GoneAfter, slow), contract.StrangerGoneAfter)
		}
		if id != w.self && s.version >= 0 && now.Sub(s.changed) >= limit {
			all = append(all, s)
		}
	}
	return all
}

// move returns the next move if it is this process's to make: when all processes are there, and nothing has changed for a while in who
// has which hot paths.
func (w *fleetWatch) move(now time.Time) (move, bool) {
	var members []member
	var shape []string
	for id, s := range w.known {
		if s.version < 0 || !s.alive || now.Sub(s.changed) > silence {
			w.shape = ""
			return move{}, false
		}
		members = append(members, s.body)
		line := fmt.Sprint(id, s.body.Ready, s.body.Ending)
		for _, seat := range s.body.Seats {
			line += fmt.Sprintf(" %s-%d", seat.Pipeline, seat.Replica)
		}
		shape = append(shape, line)
	}
	slices.Sort(shape)
	if text := strings.Join(shape, "\n"); text != w.shape {
		w.shape, w.still = text, now
	}
	if now.Sub(w.still) < contract.SpreadAfter {
		return move{}, false
	}
	m, ok := nextMove(members)
	return m, ok && m.from == w.self
}

// silence is how long a process may miss its beats before the fleet does not count as at rest.
const silence = 3 * contract.PresenceEvery / 2

// rest makes the fleet count as one in which something has just moved.
func (w *fleetWatch) rest(now time.Time) { w.still = now }
