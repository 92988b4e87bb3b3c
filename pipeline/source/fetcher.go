package source

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"

	"millrace/pipeline/profile"
	"millrace/pipeline/stage"
)

const (
	// decodeTries is how often a batch may fail to decode before the lane is told.
	decodeTries = 3
	// truncatedTries is how often the log must be seen to end below the position: just after a change of leaders the
	// new one's high watermark may lag.
	truncatedTries = 5
)

// fetcher is the Reader over Broker.Fetch: one goroutine with one connection to the partition's leader.
type fetcher struct {
	cfg    ReaderConfig
	tp     TopicPartition
	out    chan Batch
	cancel context.CancelFunc
	done   chan struct{}
	pool   recordPool

	mu     sync.Mutex
	status ReaderStatus
	err    error
	resume chan struct{} // closed by Resume; nil while not paused

	// What follows belongs to the goroutine.
	pos      int64
	size     int32 // bytes to ask for
	link     *link
	leader   leader
	asked    time.Time // age of leader
	distrust time.Time // a leader looked up before this moment led nowhere
	pause    backoff
	proof    proof
	bad      int // failures to decode in a row at pos
	beyond   int // times in a row the log was seen to end below pos
}

func openFetcher(cfg ReaderConfig) *fetcher {
	ctx, cancel := context.WithCancel(context.Background())
	f := &fetcher{
		cfg:    cfg,
		tp:     TopicPartition{Topic: cfg.Topic, Partition: cfg.Partition},
		out:    make(chan Batch, cfg.FetchBatches),
		cancel: cancel,
		done:   make(chan struct{}),
		status: ReaderStatus{Position: cfg.Offset, HighWatermark: -1, LastStable: -1},
		pos:    cfg.Offset,
		size:   int32(cfg.FetchBytes),
		pause:  newBackoff(50*time.Millisecond, 5*time.Second),
		pool:   newRecordPool(cfg.FetchBatches + 3),
	}
	go f.run(ctx)
	return f
}

func (f *fetcher) Batches() <-chan Batch { return f.out }

func (f *fetcher) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *fetcher) Status() ReaderStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

func (f *fetcher) Pause() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resume == nil {
		f.resume = make(chan struct{})
		f.status.Paused = true
	}
}

func (f *fetcher) Resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.resume != nil {
		close(f.resume)
		f.resume = nil
		f.status.Paused = false
	}
}

func (f *fetcher) Close() error {
	f.cancel()
	<-f.done
	return nil
}

// run fetches until ctx ends or the lane has to decide.
func (f *fetcher) run(ctx context.Context) {
	if f.cfg.Pipeline != "" {
		profile.Set(profile.OfLane(profile.Reader, f.cfg.Pipeline, f.tp.Topic, f.tp.Partition))
	}
	defer close(f.done)
	defer close(f.out)
	defer f.hangUp()
	defer f.cfg.Clock.Enter(stage.Idle)
	for f.unpaused(ctx) {
		batch, err := f.fetchProven(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			f.allWell()
			if batch.Next == f.pos && len(batch.Records) == 0 {
				continue
			}
			f.pos, f.bad = batch.Next, 0
			f.cfg.Clock.Enter(stage.Lane)
			select {
			case f.out <- batch:
				f.moved(batch)
			case <-ctx.Done():
				return
			}
			continue
		}
		if fatal := f.judge(ctx, err); fatal != nil {
			f.mu.Lock()
			f.err = fatal
			f.mu.Unlock()
			return
		}
		f.cfg.Clock.Enter(stage.Pause)
		if !f.pause.wait(ctx) {
			return
		}
	}
}

// unpaused waits while the reader is paused; false means ctx ended.
func (f *fetcher) unpaused(ctx context.Context) bool {
	f.mu.Lock()
	resume := f.resume
	f.mu.Unlock()
	if resume == nil {
		return ctx.Err() == nil
	}
	f.cfg.Clock.Enter(stage.Paused)
	select {
	case <-resume:
		f.proof.holds = false
		return f.unpaused(ctx)
	case <-ctx.Done():
		return false
	}
}

// connect makes sure of a connection to the leader, and now and then that it still is the leader of the same topic.
func (f *fetcher) connect(ctx context.Context) error {
	connected := f.link != nil && !f.link.broken()
	trusted := f.asked.After(f.distrust)
	if connected && trusted && time.Since(f.asked) < metadataAge {
		return nil
	}
	asked := time.Now()
	since := asked.Add(-metadataAge / 2)
	if since.Before(f.distrust) {
		since = f.distrust
	}
	l, err := f.cfg.Cluster.leader(ctx, f.tp, since)
	if err != nil {
		if connected && trusted { // no reason to stop reading
			f.asked = asked
			return nil
		}
		return err
	}
	if !connected || l.addr != f.leader.addr {
		f.hangUp()
		f.proof.holds = false
		if f.link, err = dial(ctx, f.cfg.Cluster.conf, l.addr); err != nil {
			f.link = nil
			return err
		}
	}
	f.leader, f.asked = l, asked
	if f.cfg.TopicID != "" && l.topicID != "" && l.topicID != f.cfg.TopicID {
		return f.prove(ctx) // the view may be older than the topic that was asked for
	}
	return nil
}

func (f *fetcher) hangUp() {
	if f.link != nil {
		f.link.close()
		f.link = nil
	}
}

// fetchProven brings the next batch of the topic that the position belongs to, and of no other that has its name.
func (f *fetcher) fetchProven(ctx context.Context) (Batch, error) {
	f.cfg.Clock.Enter(stage.Broker)
	batch, err := f.fetch(ctx)
	if err != nil {
		f.proof.holds = false
		return batch, err
	}
	if f.proof.holds || batch.Next == f.pos {
		return batch, nil
	}
	f.cfg.Clock.Enter(stage.Broker)
	if err := f.prove(ctx); err != nil {
		batch.Release()
		return Batch{}, err
	}
	return batch, nil
}

// fetch brings the next batch. An empty one that leaves the position where it is means there was nothing new.
func (f *fetcher) fetch(ctx context.Context) (Batch, error) {
	if err := f.connect(ctx); err != nil {
		return Batch{}, err
	}
	req := &sarama.FetchRequest{
		Version:      12,
		MaxWaitTime:  int32(fetchWait / time.Millisecond),
		MinBytes:     1,
		MaxBytes:     sarama.MaxResponseSize - 1024, // the partition's own limit counts, and only that lets kfake name aborted transactions
		Isolation:    sarama.ReadCommitted,
		SessionEpoch: -1, // no fetch session: one partition, one connection
	}
	req.AddBlock(f.tp.Topic, f.tp.Partition, f.pos, f.size, f.leader.epoch)
	var resp *sarama.FetchResponse
	sent, began := f.cfg.now(), time.Now()
	err := f.link.do(ctx, func(b *sarama.Broker) (err error) {
		resp, err = b.Fetch(req)
		return err
	})
	f.countFetch(began, resp, err)
	if err != nil {
		if !f.link.broken() {
			err = &undecodable{err}
		}
		f.link.wires.cut() // what follows on this connection cannot be trusted
		return Batch{}, err
	}
	block := resp.GetBlock(f.tp.Topic, f.tp.Partition)
	switch {
	case resp.ErrorCode != 0:
		return Batch{}, sarama.KError(resp.ErrorCode)
	case block == nil && resp.ThrottleTime > 0:
		return Batch{Next: f.pos}, nil
	case block == nil:
		return Batch{}, sarama.ErrIncompleteResponse
	case block.Err == sarama.ErrInvalidMessage:
		return Batch{}, &undecodable{block.Err}
	case block.Err != sarama.ErrNoError:
		return Batch{}, block.Err
	}
	arrived := f.cfg.now()
	f.proof.seen(sent, arrived, block)
	f.answered(block)
	f.cfg.Clock.Enter(stage.Unpack)
	batch, err := decode(block, f.pos, &f.pool, wanted{headers: f.cfg.Headers, traces: f.cfg.Traces})
	batch.Asked, batch.Fetched = sent, arrived
	if errors.Is(err, errPartial) {
		return f.grow()
	}
	if err == nil && len(block.RecordsSet) > 0 {
		// Back to normal: at once after a large batch, in steps after a bad one, as the next may be bad too.
		f.size = int32(min(int64(f.size)*4, int64(f.cfg.FetchBytes)))
	}
	return batch, err
}

// grow asks for more next time, because not even one record batch arrived whole.
func (f *fetcher) grow() (Batch, error) {
	if f.size >= sarama.MaxResponseSize-1024 {
		return Batch{}, &undecodable{fmt.Errorf("the batch is larger than %d bytes or ends early", f.size)}
	}
	f.size = int32(min(int64(f.size)*2, int64(sarama.MaxResponseSize)-1024))
	return Batch{Next: f.pos}, nil
}

// undecodable is an answer that arrived but makes no sense.
type undecodable struct{ error }

func (u *undecodable) Unwrap() error { return u.error }

// judge decides what to do about a failed fetch: a returned error ends the reader, nil means try again after a pause.
func (f *fetcher) judge(ctx context.Context, err error) error {
	var other *OtherTopicError
	var bad *undecodable
	switch {
	case errors.As(err, &other):
		return err
	case errors.Is(err, ErrLegacyFormat):
		if fatal := f.undecoded(ctx, err); fatal != nil {
			return fatal
		}
	case errors.As(err, &bad):
		// One bad batch spoils the whole answer, so ask for single batches: the good ones before it still arrive, and
		// the offset named is the bad one's.
		f.bad++
		if f.size == 1 && f.bad > decodeTries || f.bad > 3*decodeTries {
			if fatal := f.undecoded(ctx, bad.error); fatal != nil {
				return fatal
			}
		}
		f.size = 1
	case errors.Is(err, sarama.ErrOffsetOutOfRange):
		if fatal := f.outOfRange(ctx); fatal != nil {
			return fatal
		}
	}
	f.inTrouble(err)
	return nil
}

// outOfRange finds out what the log holds. nil means that the position is all right after all, or not known.
func (f *fetcher) outOfRange(ctx context.Context) error {
	ends, err := f.cfg.Cluster.Ends(ctx, f.tp)
	if err != nil {
		return nil
	}
	if err := f.prove(ctx); err != nil { // asked last, so that these are the ends of the topic it names
		if errors.Is(err, ErrOtherTopic) {
			return err
		}
		return nil
	}
	e := ends[f.tp]
	switch {
	case f.pos < e.Start:
		return &OutOfRangeError{TopicPartition: f.tp, Offset: f.pos, Ends: e}
	case f.pos > e.HighWatermark:
		if f.beyond++; f.beyond >= truncatedTries {
			return &OutOfRangeError{TopicPartition: f.tp, Offset: f.pos, Ends: e}
		}
	}
	return nil
}

func (f *fetcher) answered(block *sarama.FetchResponseBlock) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.LastFetch = time.Now()
	f.status.HighWatermark, f.status.LastStable = block.HighWaterMarkOffset, block.LastStableOffset
}

func (f *fetcher) moved(b Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.Position = b.Next
}

func (f *fetcher) inTrouble(err error) {
	f.distrust = time.Now()
	f.mu.Lock()
	f.status.Retries++
	f.status.Trouble = err
	f.mu.Unlock()
	if f.cfg.OnTrouble != nil {
		f.cfg.OnTrouble(err)
	}
}

func (f *fetcher) allWell() {
	f.beyond = 0
	f.pause.reset()
	f.mu.Lock()
	was := f.status.Retries
	f.status.Retries, f.status.Trouble = 0, nil
	f.mu.Unlock()
	if was > 0 && f.cfg.OnTrouble != nil {
		f.cfg.OnTrouble(nil)
	}
}
