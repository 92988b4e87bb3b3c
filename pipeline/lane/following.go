package lane

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/measure"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/traces"
)

// Tracing is how the lanes of a replica follow single records: those whose header says that their sender records the trace,
// and of other batches a share. It is safe for concurrent use.
type Tracing struct {
	Tracer  trace.Tracer
	Batches float64 // share of the batches without such a record that are followed, 0 to 1
	// Note keeps a trace context for whoever closes the slice's windows.
	Note func(ctx context.Context, id store.LaneID, owner store.Token, t store.SliceTrace) error
}

// Bounds of what a lane follows. What is beyond them is folded all the same.
const (
	mostFollowed   = 64 // records and batches between fold and commit
	mostNoted      = 4  // trace contexts of one slice
	notedSlices    = 64 // slices of which that is counted
	notesWaiting   = 16
	noteLimit      = time.Second // for one note
	outcomeFolded  = "folded"
	outcomePassed  = "passed over" // it lies below the offset, and was read before
	eventGivenUp   = "given up before its commit"
	eventJournaled = "journaled"
)

// following follows records of one lane until Redis has them. Only the lane's goroutine calls its methods; notes go to Redis
// in a goroutine of their own, for which nothing waits. A nil following follows nothing.
type following struct {
	tracing *Tracing
	id      store.LaneID
	owner   func() store.Token
	batches traces.Share
	open    []followed // by offset
	noted   map[store.SliceID]int

	notes  chan note
	cancel context.CancelFunc
	done   chan struct{}
}

// followed is a record, or the last one of a batch, between fold and commit.
type followed struct {
	ctx       context.Context // with the span
	span      trace.Span
	offset    int64
	stamped   time.Time // as its record was
	handed    time.Time // when the commit that holds it was handed over, or when it was folded
	commit    int64     // offset of that commit, 0 before
	journaled bool
}

type note struct {
	owner store.Token
	trace store.SliceTrace
}

func newFollowing(t *Tracing, id store.LaneID, owner func() store.Token) *following {
	if t == nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &following{
		tracing: t, id: id, owner: owner, batches: traces.NewShare(t.Batches), noted: make(map[store.SliceID]int),
		notes: make(chan note, notesWaiting), cancel: cancel, done: make(chan struct{}),
	}
	go f.keepNotes(ctx)
	return f
}

// close ends what is still open: its commits have another owner now, or the lane goes.
func (f *following) close() {
	if f == nil {
		return
	}
	for i := range f.open {
		f.open[i].giveUp()
	}
	f.cancel()
	close(f.notes)
	<-f.done
}

// keepNotes writes notes until there are no more. One that cannot be written is lost.
func (f *following) keepNotes(ctx context.Context) {
	defer close(f.done)
	for n := range f.notes {
		limited, cancel := context.WithTimeout(ctx, noteLimit)
		_ = f.tracing.Note(limited, f.id, n.owner, n.trace)
		cancel()
	}
}

// fold folds a batch, the records that are followed one by one. Folding does not depend on how a log is cut into batches.
func (f *following) fold(s *fold.State, b *source.Batch) {
	if f == nil || len(b.Records) == 0 {
		s.Fold(b)
		return
	}
	if len(b.Traced) == 0 {
		if f.batches.Pick() {
			f.follow(s, b, traces.SpanBatch, context.Background(), b.Asked)
			return
		}
		s.Fold(b)
		return
	}
	rest := *b
	from := 0
	for _, t := range b.Traced {
		if t.Index > from {
			s.Fold(&source.Batch{Records: b.Records[from:t.Index]})
		}
		one := source.Batch{Records: b.Records[t.Index : t.Index+1], Asked: b.Asked, Fetched: b.Fetched}
		stamped := time.UnixMilli(one.Records[0].Timestamp).Add(time.Millisecond) // it is cut to ms
		began := b.Asked                                                          // a fetch may have waited for the record
		if stamped.After(began) && stamped.Before(b.Fetched) {
			began = stamped
		}
		f.follow(s, &one, traces.SpanRecord, traces.Under(context.Background(), t.Parent), began)
		from = t.Index + 1
	}
	rest.Records = b.Records[from:]
	s.Fold(&rest)
}

// follow folds a batch under a span of its own, which ends when Redis has the batch's last record.
func (f *following) follow(s *fold.State, b *source.Batch, name string, parent context.Context, began time.Time) {
	last := b.Records[len(b.Records)-1].Offset
	ctx, span := f.tracing.Tracer.Start(parent, name, trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(
			traces.Pipeline.String(f.id.Pipeline), traces.System, traces.Topic.String(f.id.Topic),
			traces.PartitionOf(f.id.Partition), traces.KafkaOffset.Int64(last),
			traces.Records.Int(len(b.Records)),
		))
	if !span.IsRecording() {
		s.Fold(b)
		return
	}
	before, start := s.Counters(), time.Now()
	traces.Done(ctx, traces.SpanFetch, began, b.Fetched)
	s.Fold(b)
	outcome := outcomeOf(before, s.Counters())
	attributes := []attribute.KeyValue{traces.Outcome.String(outcome)}
	if outcome == outcomeFolded {
		slice := s.LastSlice()
		attributes = append(attributes, traces.Slice.String(slice.String()))
		f.note(slice, traces.Sampled(ctx))
	}
	ended := time.Now()
	traces.Done(ctx, traces.SpanFold, start, ended, attributes...)
	next := followed{ctx: ctx, span: span, offset: last, handed: ended}
	next.stamped = time.UnixMilli(b.Records[len(b.Records)-1].Timestamp)
	if outcome == outcomePassed || len(f.open) == mostFollowed {
		next.giveUp()
		return
	}
	f.open = append(f.open, next)
}

// note leaves a trace context to whoever closes the windows of a slice.
func (f *following) note(slice store.SliceID, parent string) {
	if f.noted[slice] >= mostNoted {
		return
	}
	select {
	case f.notes <- note{f.owner(), store.SliceTrace{Slice: slice, Parent: parent}}:
	default:
		return // Redis is slow or away
	}
	f.noted[slice]++
	if len(f.noted) <= notedSlices {
		return
	}
	oldest := slice
	for s := range f.noted {
		if s.End() < oldest.End() {
			oldest = s
		}
	}
	delete(f.noted, oldest)
}

// handedOver is told that a commit up to offset goes to Redis or to the journal.
func (f *following) handedOver(offset int64) {
	if f == nil {
		return
	}
	now := time.Now()
	for i := range f.open {
		if o := &f.open[i]; o.commit == 0 && o.offset < offset {
			o.handed, o.commit = now, offset
		}
	}
}

// journaled is told that the journal has a commit up to offset, and Redis not yet.
func (f *following) journaled(offset int64) {
	if f == nil {
		return
	}
	for i := range f.open {
		if o := &f.open[i]; o.offset < offset && !o.journaled {
			o.journaled = true
			o.span.AddEvent(eventJournaled)
		}
	}
}

// committed is told that Redis has everything up to offset, and has it since at. The trace of a record explains how old it was then.
func (f *following) committed(offset int64, at time.Time, ages *measure.Histogram) {
	if f == nil {
		return
	}
	n := 0
	for n < len(f.open) && f.open[n].offset < offset {
		o := &f.open[n]
		now := time.Now()
		traces.Done(o.ctx, traces.SpanCommit, o.handed, now, traces.Commit.Int64(offset), traces.Journaled.Bool(o.journaled))
		o.span.End(trace.WithTimestamp(now))
		if of := o.span.SpanContext(); of.IsSampled() {
			ages.Explain(at.Sub(o.stamped), measure.Trace{TraceID: of.TraceID(), SpanID: of.SpanID()}, now)
		}
		n++
	}
	left := copy(f.open, f.open[n:])
	clear(f.open[left:])
	f.open = f.open[:left]
}

func (o *followed) giveUp() {
	o.span.AddEvent(eventGivenUp)
	o.span.End()
}

// outcomeOf says what became of the records that were folded in between: of the last one, if there are several.
func outcomeOf(before, after store.Counters) string {
	for _, c := range []struct {
		name string
		n    int64
	}{
		{outcomeFolded, after.Folded - before.Folded}, {"late", after.Late - before.Late},
		{"filtered", after.Filtered - before.Filtered}, {"invalid", after.Invalid - before.Invalid},
		{"ahead", after.Ahead - before.Ahead}, {"past", after.Past - before.Past}, {"jumped", after.Jumped - before.Jumped},
		{"duplicate", after.Duplicate - before.Duplicate},
	} {
		if c.n > 0 {
			return c.name
		}
	}
	if after.Read > before.Read {
		return "not kept" // a shadow counts other windows
	}
	return outcomePassed
}
