package inflight

import (
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// SignOfLife is how long a lane with nothing to commit stays silent: an empty commit also notices a Redis that forgot.
const SignOfLife = time.Second

// Patience is how many commit intervals a lane keeps folding after all its commit buffers are in flight. Meanwhile what it
// folds joins the next commit: the slower Redis is, the more events one written entry stands for.
const Patience = 10

// sideLimit is how many bytes of late and dead-letter records may wait for a commit.
const sideLimit = 8 << 20

// Commits are the commits of one lane. The goroutine that owns the lane's state calls its methods.
type Commits struct {
	state    *fold.State
	interval time.Duration

	free     []*fold.Commit // buffers at rest; the last one is used next
	inFlight []*fold.Commit // handed over, oldest first
	last     time.Time      // when a commit was last handed over
	requests deliver.Requests

	tail     *journal.Tail   // of the present owner; nil without a journal
	owed     []*journal.Tail // of earlier owners: their side records were not sent
	onlyCopy bool            // Redis had nothing of the lane when its state was last written again

	pages    bool     // every reader of the lane's state can read pages
	answered []answer // of commits that Redis has, oldest first; those that readers have forgotten count as one
}

// answer is when Redis acknowledged a commit.
type answer struct {
	seq int64
	at  time.Time
}

// readersGrace is how long after a commit whoever reads by an index from before it may still want pages that it has replaced.
const readersGrace = 2 * time.Second

// New returns the commits of a lane that goes on from state. atOnce is how many may be in flight, interval the time between
// two of them.
func New(state *fold.State, atOnce int, interval time.Duration, now time.Time) *Commits {
	c := &Commits{state: state, interval: interval, last: now, requests: deliver.NoRequests}
	for range atOnce {
		c.free = append(c.free, new(fold.Commit))
	}
	return c
}

// AllowPages says whether every reader of the lane's state can read pages now. It decides about lanes that are not in pages yet.
func (c *Commits) AllowPages(allowed bool) { c.pages = allowed }

// Begin says which journal takes the commits from now on, nil for none. Whoever delivers them gets all that Journal returns.
func (c *Commits) Begin(tail *journal.Tail) { c.tail = tail }

// Journal is the lane's part of its process's journal.
func (c *Commits) Journal() deliver.Journal {
	return deliver.Journal{Tail: c.tail, Owed: c.owed, OnlyCopy: c.onlyCopy}
}

// Pending is what waits in the journal of the present owner.
func (c *Commits) Pending() journal.Tally {
	if c.tail == nil {
		return journal.Tally{}
	}
	return c.tail.Pending()
}

// Requests are what the closer has asked of the lane.
func (c *Commits) Requests() deliver.Requests { return c.requests }

// Ready reports whether a commit could be made now.
func (c *Commits) Ready() bool { return len(c.free) > 0 }

// InFlight is how many commits are handed over and not answered.
func (c *Commits) InFlight() int { return len(c.inFlight) }

// Due reports whether a tick commits: what changed after every commit interval, a sign of life every second.
func (c *Commits) Due(now time.Time) bool {
	since := now.Sub(c.last)
	if c.state.Dirty() {
		return c.interval <= SignOfLife || since >= c.interval-SignOfLife/2 // ticks come every interval, or every second
	}
	return since >= SignOfLife
}

// SidesFull reports whether the next commit should be made because of its side records, whenever the last one was.
func (c *Commits) SidesFull() bool { return c.state.SideBytes() > sideLimit }

// Overdue reports whether the lane has folded all it may before a commit comes back.
func (c *Commits) Overdue(now time.Time) bool {
	return len(c.free) == 0 && (c.SidesFull() || now.Sub(c.last) > Patience*c.interval)
}

// Orders are what a lane follows beside the closer's requests.
type Orders struct {
	Gen, SpecGen int64 // of the desired state
	IdleAt       int64 // the broker's end at which the lane is proved idle, store.NotIdle otherwise
}

// Next snapshots what changed into a commit that is to be handed over at once. It returns nil when as many commits as
// allowed are in flight: what changed joins a later one.
func (c *Commits) Next(o Orders, now time.Time) *fold.Commit {
	commit := c.takeBuffer()
	if commit == nil {
		return nil
	}
	c.state.Snapshot(commit, c.control(o, now))
	c.handOver(commit, now)
	return commit
}

func (c *Commits) control(o Orders, now time.Time) fold.Control {
	return fold.Control{
		Gen: o.Gen, SpecGen: o.SpecGen, IdleAt: o.IdleAt,
		SealBefore: c.requests.Seal, DropBefore: c.requests.Drop, Rewrite: c.requests.Rewrite,
		Pages: c.pages, OnlyDeltas: c.Pending().Calls > 0, DeleteUpTo: c.settledSeq(now),
	}
}

// settledSeq is the number of the last commit that Redis has had for as long as readers may be behind; 0 for none.
func (c *Commits) settledSeq(now time.Time) int64 {
	for len(c.answered) > 1 && now.Sub(c.answered[1].at) >= readersGrace {
		c.answered = c.answered[1:]
	}
	if len(c.answered) > 0 && now.Sub(c.answered[0].at) >= readersGrace {
		return c.answered[0].seq
	}
	return 0
}

func (c *Commits) takeBuffer() *fold.Commit {
	n := len(c.free)
	if n == 0 {
		return nil
	}
	commit := c.free[n-1]
	c.free = c.free[:n-1]
	return commit
}

func (c *Commits) handOver(commit *fold.Commit, now time.Time) {
	c.inFlight = append(c.inFlight, commit)
	c.last = now
}

// takeBack ends the flight of the oldest commit.
func (c *Commits) takeBack(commit *fold.Commit) {
	c.inFlight = c.inFlight[1:]
	c.free = append(c.free, commit)
}

// Answer takes a result without an error. It reports whether entries are missing in Redis, so that a commit with all of
// them is to be made at once.
func (c *Commits) Answer(r deliver.Result) (rewrite bool) {
	if r.Commit != nil {
		c.takeBack(r.Commit)
	}
	if !r.InRedis {
		return false
	}
	c.state.Reached(r.Reached.Effective)
	c.answered = append(c.answered, answer{r.Reached.Seq, r.At})
	if c.tail != nil {
		c.tail.Committed(r.Reached.Offset)
	}
	c.requests.Follow(r.Requests)
	return c.state.OwesEntries(c.requests.Rewrite)
}

// Withdraw takes the results that nobody read before the delivery was stopped, and the journals whose side records are
// still owed. Commits that reached the journal are in flight no more.
func (c *Commits) Withdraw(unread []deliver.Result, owed []*journal.Tail) {
	for _, r := range unread {
		if r.Commit != nil && r.Journaled && r.Err == nil {
			c.takeBack(r.Commit)
		}
	}
	c.owed = owed
}

// Reseed encodes what Redis forgot as one commit, to be handed over at once under a new owner: found is what that owner found
// there. With it go the side records of every commit in flight; those in the journal are owed from now on. Begin is called
// after it.
func (c *Commits) Reseed(found store.LaneIndex, now time.Time) *fold.Commit {
	if c.tail != nil {
		c.owed, c.tail = append(c.owed, c.tail), nil
	}
	var side []source.SideRecord
	for _, f := range c.inFlight {
		side = append(side, f.Side...)
	}
	c.free, c.inFlight, c.answered = append(c.free, c.inFlight...), nil, nil
	commit := c.takeBuffer()
	c.state.Reseed(commit, found)
	commit.OweSides(side)
	c.onlyCopy = found.Meta.Offset < 0
	c.requests.Rewrite = 0 // it was asked of the owner before, and is done
	c.handOver(commit, now)
	return commit
}

// OnlyCopy reports whether Redis had nothing of the lane when its state was last written again.
func (c *Commits) OnlyCopy() bool { return c.onlyCopy }

// Bytes is the memory of the lane: its state and its commits, those at rest too, and what the next commit will need beyond
// them.
func (c *Commits) Bytes() int64 {
	n, spare := c.state.Bytes(), int64(0)
	for _, f := range c.free {
		spare = f.Footprint() // the last one is used next
		n += spare
	}
	for _, f := range c.inFlight {
		n += f.Footprint()
	}
	if c.tail != nil {
		n += c.tail.Held()
	}
	return n + max(0, c.state.Pending()-spare)
}

// Close gives up what the lane holds of the journal.
func (c *Commits) Close() {
	for _, t := range c.owed {
		t.Close()
	}
	if c.tail != nil {
		c.tail.Close()
	}
	c.owed, c.tail = nil, nil
}
