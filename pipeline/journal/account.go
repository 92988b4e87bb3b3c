package journal

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// Sum is a checksum of records: the sum, modulo 2^64, of a hash of each record's data, so it does not depend on their order.
type Sum uint64

// Tally counts journalled calls, as numbers that add up at every record; Account is what is told of it.
type Tally struct {
	Commits  int64 // that ended: those whose last call is counted here
	Calls    int64
	Entries  int64
	Bytes    int64 // of encoded calls
	Checksum Sum
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

// Account is the tally as it is told: with the checksum in hex.
func (t Tally) Account() report.Account {
	return report.Account{
		Commits: t.Commits, Calls: t.Calls, Entries: t.Entries, Bytes: t.Bytes, Checksum: fmt.Sprintf("%016x", uint64(t.Checksum)),
	}
}

// Accounts says what became of everything that was journalled: Spilled = Drained + Superseded + Pending, per lane and in
// sum, checksums included. Drained is counted from what was read back and acknowledged by Redis, so an equal checksum
// proves that what was drained is what was spilled.
//
// They are kept in memory. What survives the process is what the log still holds: after opening, the records that were not
// released count as spilled and pending, those that were drained but whose release a crash has lost among them; records
// released before count nowhere, and records in a corrupt range count as lost in the log's recovery report, not here.
type Accounts struct {
	Spilled    Tally
	Drained    Tally // applied by Redis
	Superseded Tally // never to be applied: read again from Kafka, or written again from memory
	Pending    Tally
	Lanes      []LaneAccount
}

// LaneAccount is one lane's part of the accounts.
type LaneAccount struct {
	Lane       store.LaneID
	Spilled    Tally
	Drained    Tally
	Superseded Tally
	Pending    Tally
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

// Books are the accounts of a pipeline's lanes.
func (j *Journal) Books(pipeline string) report.JournalAccounts {
	var sum LaneAccount
	for _, l := range j.Accounts().Lanes {
		if l.Lane.Pipeline == pipeline {
			sum.Spilled.add(l.Spilled)
			sum.Drained.add(l.Drained)
			sum.Superseded.add(l.Superseded)
			sum.Pending.add(l.Pending)
		}
	}
	return report.JournalAccounts{
		Journal: true, Disk: j.Disk(), Spilled: sum.Spilled.Account(), Drained: sum.Drained.Account(),
		Superseded: sum.Superseded.Account(), Pending: sum.Pending.Account(),
	}
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
	Lane    store.LaneID
	Owner   store.Token
	StateID string
	State   string
	Reason  string       // why it is superseded
	First   store.Cursor // place of the first call held when it was opened or begun
	Last    store.Cursor
	Offset  int64 // the highest offset a commit of it covers: everything below
	Spilled Tally
	Drained Tally
	// FirstIndex and LastIndex are the log's numbers of the first record not drained and of the last one.
	FirstIndex uint64
	LastIndex  uint64
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

// Ref names the chain.
func (c *Chain) Ref() report.ChainRef {
	return report.ChainRef{Topic: c.Lane.Topic, Partition: c.Lane.Partition, Chain: string(c.Owner)}
}

// List lists what the journal holds of a pipeline, by where it lies on the disk, oldest first.
func (j *Journal) List(pipeline string) []report.WALChain {
	segments := j.Segments()
	chains := slices.DeleteFunc(j.Chains(), func(c Chain) bool { return c.Lane.Pipeline != pipeline })
	slices.SortStableFunc(chains, func(a, b Chain) int { return cmp.Compare(a.FirstIndex, b.FirstIndex) })
	all := make([]report.WALChain, 0, len(chains))
	for i := range chains {
		c := &chains[i]
		left := c.Spilled.minus(c.Drained)
		w := report.WALChain{
			ChainRef: c.Ref(), First: c.First.String(), Last: c.Last.String(), From: -1, To: c.Offset,
			Commits: left.Commits, Bytes: left.Bytes, Live: c.State == Live,
		}
		if c.State == Superseded {
			w.Settled = report.ChainSuperseded
		}
		for _, s := range segments {
			if c.FirstIndex >= s.First && c.FirstIndex < s.Next {
				w.Segment = s.File
			}
		}
		all = append(all, w)
	}
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
