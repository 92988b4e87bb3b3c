package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"millrace/activities"
	"millrace/pipeline/breaker"
	"millrace/pipeline/journal"
	"millrace/pipeline/lane/deliver"
	"millrace/pipeline/profile"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
)

// disk is the process's WAL directory.
type disk struct {
	*journal.Journal
	store *store.Store
	side  *sides
	log   *slog.Logger
	stop  context.CancelFunc
	done  chan struct{}
}

var _ activities.Journal = (*disk)(nil)

// openDisk opens or makes the WAL directory, repairs what a crash left there, and says what it found.
func openDisk(cfg wal.Config, st *store.Store, kafka source.Config, log *slog.Logger) (*disk, error) {
	var j *journal.Journal
	var found *wal.Recovery
	var err error
	pprof.Do(context.Background(), profile.OfProcess(profile.WAL), func(context.Context) { // the log's goroutines inherit the label
		j, found, err = journal.Open(journal.Config{Log: cfg})
	})
	if err != nil {
		return nil, fmt.Errorf("cannot use the WAL in %s: %w", cfg.Dir, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d := &disk{
		Journal: j, store: st, side: &sides{kafka: kafka}, log: log.With("wal", cfg.Dir, "disk", j.Disk()), stop: cancel,
		done: make(chan struct{}),
	}
	pending := j.Accounts().Pending
	d.log.Info("WAL opened", "segments", found.Segments, "records", found.Records, "pending_commits", pending.Commits,
		"pending_bytes", pending.Bytes, "torn", found.Torn != nil, "took", found.Took)
	for _, r := range found.Corrupt {
		d.log.Error("WAL is corrupt; what cannot be read is copied aside, and read again from Kafka", "range", r.String(), "copy", r.Copy)
	}
	go d.tidy(ctx)
	return d, nil
}

func (d *disk) close() error {
	d.stop()
	<-d.done
	return errors.Join(d.side.close(), d.Close())
}

// tidyEvery is how often the chains that no lane of this process works on are checked.
const tidyEvery = 10 * time.Second

// tidy settles what needs no decision: a chain whose lane has had another owner at two checks in a row is superseded, and goes when that
// owner has passed it. A chain whose lane nobody has taken over waits for an acquisition, or for a ReplayWAL.
func (d *disk) tidy(ctx context.Context) {
	defer close(d.done)
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	d.sweepAside(time.Now())
	moved := map[report.ChainRef]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			moved = d.settleMoved(ctx, moved)
			d.sweepAside(time.Now())
		}
	}
}

// settleMoved settles the chains whose lane had another owner at the check before, too, and returns those whose lane has one now.
func (d *disk) settleMoved(ctx context.Context, moved map[report.ChainRef]bool) map[report.ChainRef]bool {
	seen := map[report.ChainRef]bool{}
	for _, c := range d.Chains() {
		meta, found, err := d.store.ReadMeta(ctx, c.Lane)
		if c.State != journal.Pending || err != nil || !found || meta.Owner == c.Owner {
			continue
		}
		ref := c.Ref()
		// A removal takes the owner's token away soon, and nobody else will take over: one check is enough.
		if seen[ref] = true; !moved[ref] && !meta.Owner.Removed() {
			continue
		}
		switch r, err := d.Journal.Settle(ctx, c.Lane, c.Owner, journal.SettleOptions{Store: d.store, Side: deliver.Fitting(d.side)}); {
		case err == nil:
			d.log.InfoContext(ctx, "journalled commits are superseded: another owner has taken the lane", "lane", c.Lane.String(),
				"chain", c.Owner, "commits", r.SupersededCommits(), "outcome", r.Outcome)
		case !errors.Is(err, journal.ErrLive) && !errors.Is(err, journal.ErrUnknown) && ctx.Err() == nil:
			d.log.WarnContext(ctx, "journalled commits not settled, trying again", "lane", c.Lane.String(), "chain", c.Owner, "error", err)
		}
	}
	passed, err := d.Sweep(ctx, func(id store.LaneID) (store.Meta, bool, error) { return d.store.ReadMeta(ctx, id) })
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "journal not swept, trying again", "error", err)
	}
	if passed > 0 {
		d.log.InfoContext(ctx, "superseded journals deleted: their lanes have passed them, or are removed", "chains", passed)
	}
	return seen
}

// sweepAside keeps the copies of what could not be read within their bounds.
func (d *disk) sweepAside(now time.Time) {
	deleted, err := d.SweepAside(now)
	for _, c := range deleted {
		d.log.Warn("copy of an unreadable part of the WAL deleted to keep the bounds of --wal-aside-age and --wal-aside-limit",
			"file", c.File, "bytes", c.Bytes, "written", c.Modified)
	}
	if err != nil {
		d.log.Warn("copies of unreadable parts of the WAL not swept, trying again", "error", err)
	}
}

// storage is what a pipeline's state machine needs to know. What waits for lanes that do not run here is not its affair.
func (d *disk) storage(pipeline string) breaker.Storage {
	level, stats := d.Level(), d.Stats()
	s := breaker.Storage{
		Journal: true, Soft: level >= wal.Soft, Hard: level == wal.Hard,
		Used: stats.Used, SoftLimit: stats.SoftLimit, HardLimit: stats.HardLimit,
	}
	for _, c := range d.Chains() {
		if c.Lane.Pipeline == pipeline && c.State == journal.Live {
			s.PendingCommits += c.Spilled.Commits - c.Drained.Commits
			s.PendingBytes += c.Spilled.Bytes - c.Drained.Bytes
		}
	}
	return s
}

// List implements activities.Journal.
func (d *disk) List(_ context.Context, pipeline string) ([]report.WALChain, error) {
	return d.Journal.List(pipeline), nil
}

// Settle implements activities.Journal.
func (d *disk) Settle(ctx context.Context, pipeline string, chain report.ChainRef, how activities.Settling,
	progress func(activities.Settled),
) (report.SettledChain, error) {
	id := store.LaneID{Pipeline: pipeline, Topic: chain.Topic, Partition: chain.Partition}
	ticking, stop := context.WithCancel(ctx)
	var following sync.WaitGroup
	following.Go(func() { d.follow(ticking, chain, pipeline, progress) })
	r, err := d.Journal.Settle(ctx, id, store.Token(chain.Chain), journal.SettleOptions{
		Store: d.store, Side: deliver.Fitting(d.side), Quarantine: how.Quarantine, BytesPerSecond: int(how.BytesPerSecond),
	})
	stop()
	following.Wait()
	var corrupt *wal.CorruptError
	switch {
	case errors.As(err, &corrupt):
		return report.SettledChain{}, &activities.CorruptError{Range: corruptRange(chain, corrupt.Range)}
	case errors.Is(err, journal.ErrLive):
		return report.SettledChain{}, fmt.Errorf("%w: %w", activities.ErrLive, err)
	case errors.Is(err, journal.ErrUnknown): // an acquisition, or an attempt before this one, has settled it
		return report.SettledChain{ChainRef: chain, Outcome: report.ChainNone, From: -1, To: -1}, nil
	case err != nil:
		return report.SettledChain{}, permanent(err)
	}
	return r, nil
}

// follow reports how far a chain is until ctx ends.
func (d *disk) follow(ctx context.Context, chain report.ChainRef, pipeline string, progress func(activities.Settled)) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, c := range d.Chains() {
			if c.Lane.Pipeline == pipeline && c.Ref() == chain {
				progress(activities.Settled{Records: c.Drained.Calls, Bytes: c.Drained.Bytes})
			}
		}
	}
}

func corruptRange(chain report.ChainRef, r wal.Range) report.CorruptRange {
	out := report.CorruptRange{
		ChainRef: chain, Segment: fmt.Sprintf("%016x", r.Segment), From: r.Offset, To: r.Offset + r.Length, Records: -1, Detail: r.Reason,
	}
	if r.Lost > 0 {
		out.Records = int64(r.Lost)
	}
	if r.Copy != "" {
		out.Detail = strings.TrimSpace(out.Detail + "; its bytes are in " + r.Copy)
	}
	return out
}

// Accounts implements activities.Journal: the books of one pipeline's lanes.
func (d *disk) Accounts(pipeline string) (report.JournalAccounts, error) {
	return d.Books(pipeline), nil
}

// sides publishes the side records of chains that are settled without a lane. The producer is made when it is needed.
type sides struct {
	kafka source.Config

	mu       sync.Mutex
	producer *source.Producer
}

// Send implements deliver.SideSender.
func (s *sides) Send(ctx context.Context, records []source.SideRecord) error {
	s.mu.Lock()
	if s.producer == nil {
		p, err := source.NewProducer(ctx, s.kafka)
		if err != nil {
			s.mu.Unlock()
			return err
		}
		s.producer = p
	}
	p := s.producer
	s.mu.Unlock()
	return p.Send(ctx, records)
}

func (s *sides) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.producer == nil {
		return nil
	}
	return s.producer.Close()
}
