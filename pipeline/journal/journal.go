package journal

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"millrace/pipeline/store"
	"millrace/pipeline/wal"
)

// Config says where the journal lives and how large it may grow.
type Config struct {
	Log wal.Config // as for wal.Open
}

// Journal is the journal of all lanes of a process. It is safe for concurrent use.
type Journal struct {
	log   *wal.Log
	batch int64 // most bytes of records in one append

	mu      sync.Mutex
	streams map[string]*stream
}

// stream is one lane's part of the journal. The journal's mutex guards everything but busy.
type stream struct {
	id   store.LaneID
	key  []byte
	busy sync.Mutex // held while chains of the lane are applied by an acquisition or by Settle

	chains                       []*chain                    // of which the log holds records, oldest first
	tail                         *Tail                       // of the lane that runs here
	moved                        map[store.Token]store.Token // who took the place of which owner to apply its chain
	end                          uint64                      // index behind the last record
	spilled, drained, superseded Tally
}

// chain is what one owner has journalled.
type chain struct {
	owner       store.Token
	stateID     string
	first, last store.Cursor
	next        uint64 // index of the first record not drained
	lastIndex   uint64
	pos         int64
	spilled     Tally
	drained     Tally
	superseded  bool
	reason      string
}

// Open opens or creates the journal and reads all of it once. Corruption is reported, not an error. Errors are those of
// wal.Open, and ErrVersion.
func Open(cfg Config) (*Journal, *wal.Recovery, error) {
	log, rep, err := wal.Open(cfg.Log)
	if err != nil {
		return nil, nil, err
	}
	j := &Journal{log: log, batch: batchLimit(cfg.Log.SegmentSize), streams: make(map[string]*stream)}
	if err := j.load(); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open journal: %w", err), log.Close())
	}
	return j, rep, nil
}

// load counts what the log holds.
func (j *Journal) load() error {
	released := make(map[string]uint64)
	for _, s := range j.log.Streams() {
		released[s.Stream] = s.Released
	}
	r := j.log.Reader(0)
	defer r.Close()
	for {
		rec, err := r.Next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, wal.ErrCorrupt):
			r.Skip()
			continue
		case err != nil:
			return err
		}
		if before, held := released[string(rec.Stream)]; !held || rec.Index < before {
			continue
		}
		id, err := parseLane(string(rec.Stream))
		if err != nil {
			return err
		}
		h, _, err := readHead(rec.Data)
		if err != nil {
			return fmt.Errorf("lane %s, record %d: %w", id, rec.Index, err)
		}
		j.streamOf(id).note(store.Token(rec.Chain), &h, rec.Index, rec.Pos, tallyOf(&h, rec.Data))
	}
}

func tallyOf(h *head, data []byte) Tally {
	t := Tally{Calls: 1, Entries: int64(h.entries), Bytes: int64(len(data)), Checksum: Sum(xxhash.Sum64(data))}
	if h.flags&flagMeta != 0 {
		t.Commits = 1
	}
	return t
}

// parseLane is the inverse of store.LaneID.String: neither pipelines nor topics have slashes in their names.
func parseLane(text string) (store.LaneID, error) {
	pipeline, rest, _ := strings.Cut(text, "/")
	topic, number, _ := strings.Cut(rest, "/")
	partition, err := strconv.ParseInt(number, 10, 32)
	if err != nil || pipeline == "" || topic == "" {
		return store.LaneID{}, fmt.Errorf("stream %q is not pipeline/topic/partition: %w", text, ErrUnreadable)
	}
	return store.LaneID{Pipeline: pipeline, Topic: topic, Partition: int32(partition)}, nil
}

// streamOf finds or makes a lane's stream. Callers hold j.mu, or are alone.
func (j *Journal) streamOf(id store.LaneID) *stream {
	key := id.String()
	s := j.streams[key]
	if s == nil {
		s = &stream{id: id, key: []byte(key), moved: make(map[store.Token]store.Token)}
		j.streams[key] = s
	}
	return s
}

func (s *stream) find(owner store.Token) *chain {
	for _, c := range s.chains {
		if c.owner == owner {
			return c
		}
	}
	return nil
}

// note counts a durable record.
func (s *stream) note(owner store.Token, h *head, index uint64, pos int64, t Tally) {
	c := s.find(owner)
	if c == nil {
		c = &chain{owner: owner, stateID: strings.Clone(h.stateID), first: h.next, next: index, pos: pos}
		s.chains = append(s.chains, c)
	}
	if c.next > c.lastIndex { // what was there is drained
		c.next = index
	}
	c.last, c.lastIndex, c.pos = h.next, index, max(c.pos, pos)
	s.end = max(s.end, index+1)
	c.spilled.add(t)
	s.spilled.add(t)
	if c.superseded {
		s.superseded.add(t)
	}
}

// settle counts a record as drained.
func (s *stream) settle(c *chain, r *record) {
	c.next = r.index + 1
	c.drained.add(r.tally)
	s.drained.add(r.tally)
}

// supersede makes sure that a chain is never applied.
func (s *stream) supersede(c *chain, reason string) {
	if c.superseded {
		return
	}
	c.superseded, c.reason = true, reason
	s.superseded.add(c.spilled.minus(c.drained))
}

// release lets the log forget what is drained, up to the first record that is kept, and chains for which done is true. A
// running lane's chain stays. Callers hold j.mu.
func (j *Journal) release(s *stream, done func(*chain) bool) {
	before := s.end
	kept := s.chains[:0]
	for _, c := range s.chains {
		if !done(c) || s.live(c) {
			kept = append(kept, c)
		}
	}
	clear(s.chains[len(kept):])
	s.chains = kept
	for _, c := range kept {
		before = min(before, c.next)
	}
	j.log.Release(s.key, before)
}

// live reports whether a lane of this process adds to the chain.
func (s *stream) live(c *chain) bool { return s.tail != nil && s.tail.owner == c.owner }

// applied reports whether nothing of a chain is left to apply.
func (c *chain) applied() bool { return !c.superseded && c.next > c.lastIndex }

// Close closes the log. Lanes must have ended before.
func (j *Journal) Close() error { return j.log.Close() }

// Disk names the log's directory for good, whatever process holds it.
func (j *Journal) Disk() string { return j.log.Identity().Disk.String() }

// Level says how full the log is.
func (j *Journal) Level() wal.Level { return j.log.Level() }

// Err is wal.Log.Err: wal.ErrFailed is final.
func (j *Journal) Err() error { return j.log.Err() }

// Stats returns the log's counters.
func (j *Journal) Stats() wal.Stats { return j.log.Stats() }

// SweepAside is wal.Log.SweepAside.
func (j *Journal) SweepAside(now time.Time) ([]wal.AsideCopy, error) { return j.log.SweepAside(now) }

// Segments describes the log's segments, oldest first.
func (j *Journal) Segments() []wal.SegmentInfo { return j.log.Segments() }
