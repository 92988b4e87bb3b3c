package journal

import (
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/store"
)

// Sum is a checksum of records: the sum, modulo 2^64, of a hash of each record's data, so it does not depend on their order.
type Sum uint64

// MarshalText writes 16 hexadecimal digits.
func (s Sum) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%016x", uint64(s)), nil }

// Tally counts journalled calls.
type Tally struct {
	Commits  int64 `json:"commits"` // that ended: those whose last call is counted here
	Calls    int64 `json:"calls"`
	Entries  int64 `json:"entries"`
	Bytes    int64 `json:"bytes"` // of encoded calls
	Checksum Sum   `json:"checksum"`
}

func (t *Tally) add(o Tally) {
	t.Commits += o.Commits
	t.Calls += o.Calls
	t.Entries += o.Entries
	t.Bytes += o.Bytes
	t.Checksum += o.Checksum
}

// Plus returns the sum.
func (t Tally) Plus(o Tally) Tally {
	t.add(o)
	return t
}

func (t Tally) minus(o Tally) Tally {
	return Tally{t.Commits - o.Commits, t.Calls - o.Calls, t.Entries - o.Entries, t.Bytes - o.Bytes, t.Checksum - o.Checksum}
}

// Accounts says what became of everything that was journalled: Spilled = Drained + Superseded + Pending, per lane and in
// sum, checksums included. Drained is counted from what was read back and acknowledged by Redis, so an equal checksum
// proves that what was drained is what was spilled.
//
// They are kept in memory. What survives the process is what the log still holds: after opening, the records that were not
// released count as spilled and pending, those that were drained but whose release a crash has lost among them; records
// released before count nowhere, and records in a corrupt range count as lost in the log's recovery report, not here.
type Accounts struct {
	Spilled    Tally         `json:"spilled"`
	Drained    Tally         `json:"drained"`    // applied by Redis
	Superseded Tally         `json:"superseded"` // never to be applied: read again from Kafka, or written again from memory
	Pending    Tally         `json:"pending"`
	Lanes      []LaneAccount `json:"lanes,omitempty"`
}

// LaneAccount is one lane's part of the accounts.
type LaneAccount struct {
	Lane       store.LaneID `json:"lane"`
	Spilled    Tally        `json:"spilled"`
	Drained    Tally        `json:"drained"`
	Superseded Tally        `json:"superseded"`
	Pending    Tally        `json:"pending"`
}

// Accounts returns the totals since the journal was opened, lanes in order.
func (j *Journal) Accounts() Accounts {
	j.mu.Lock()
	defer j.mu.Unlock()
	var a Accounts
	for _, s := range j.streams {
		l := s.account()
		a.Lanes = append(a.Lanes, l)
		a.Spilled.add(l.Spilled)
		a.Drained.add(l.Drained)
		a.Superseded.add(l.Superseded)
		a.Pending.add(l.Pending)
	}
	slices.SortFunc(a.Lanes, func(x, y LaneAccount) int { return strings.Compare(x.Lane.String(), y.Lane.String()) })
	return a
}

func (s *stream) account() LaneAccount {
	return LaneAccount{
		Lane: s.id, Spilled: s.spilled, Drained: s.drained, Superseded: s.superseded,
		Pending: s.spilled.minus(s.drained).minus(s.superseded),
	}
}

// States of a chain.
const (
	Live       = "live"       // a lane of this process adds to it and drains it
	Pending    = "pending"    // nobody runs its lane here: the next acquisition, or Settle, decides
	Superseded = "superseded" // never to be applied; kept until the lane's offset has passed it
)

// Chain is what one owner of a lane has journalled and the log still holds.
type Chain struct {
	Lane    store.LaneID `json:"lane"`
	Owner   store.Token  `json:"owner"`
	StateID string       `json:"state_id"`
	State   string       `json:"state"`
	Reason  string       `json:"reason,omitempty"` // why it is superseded
	First   store.Cursor `json:"first"`            // place of the first call held when it was opened or begun
	Last    store.Cursor `json:"last"`
	Offset  int64        `json:"offset"` // the highest offset a commit of it covers: everything below
	Spilled Tally        `json:"spilled"`
	Drained Tally        `json:"drained"`
	// FirstIndex and LastIndex are the log's numbers of the first record not drained and of the last one.
	FirstIndex uint64 `json:"first_index"`
	LastIndex  uint64 `json:"last_index"`
}

// Chains lists what the journal holds, by lane, oldest first.
func (j *Journal) Chains() []Chain {
	j.mu.Lock()
	defer j.mu.Unlock()
	var all []Chain
	for _, s := range j.streams {
		for _, c := range s.chains {
			if !c.applied() {
				all = append(all, s.describe(c))
			}
		}
	}
	slices.SortStableFunc(all, func(x, y Chain) int { return strings.Compare(x.Lane.String(), y.Lane.String()) })
	return all
}

func (s *stream) describe(c *chain) Chain {
	state := Pending
	switch {
	case c.superseded:
		state = Superseded
	case s.live(c):
		state = Live
	}
	return Chain{
		Lane: s.id, Owner: c.owner, StateID: c.stateID, State: state, Reason: c.reason, First: c.first, Last: c.last,
		Offset: c.pos, Spilled: c.spilled, Drained: c.drained, FirstIndex: c.next, LastIndex: c.lastIndex,
	}
}
