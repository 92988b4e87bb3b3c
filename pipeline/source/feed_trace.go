package source

import (
	"context"
	"errors"
	"sync"

	"github.com/IBM/sarama"
	"go.opentelemetry.io/otel/trace"

	"millrace/pipeline/traces"
)

// TraceFeeds lets a share, 0 to 1, of the records that Feed and FeedFrom send carry the context of a trace of their own. It is
// called before anything is sent.
func (p *Producer) TraceFeeds(tracer trace.Tracer, share float64) {
	p.feeds = &feedTracing{tracer: tracer, share: traces.NewShare(share), open: make(map[*sarama.ProducerMessage]trace.Span)}
}

// feedTracing makes the spans of records that are fed. A nil one makes none.
type feedTracing struct {
	tracer trace.Tracer
	share  traces.Share // of the feeding goroutine

	mu   sync.Mutex
	open map[*sarama.ProducerMessage]trace.Span // not acknowledged
}

// begin gives a record that is picked a trace: its root span, which links to the one in ctx, lasts until the record is acknowledged.
func (f *feedTracing) begin(ctx context.Context, msg *sarama.ProducerMessage) {
	if f == nil || !f.share.Pick() {
		return
	}
	ctx, span := f.tracer.Start(ctx, traces.SpanSend, trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)),
		trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(traces.System, traces.Topic.String(msg.Topic)))
	context := traces.Sampled(ctx)
	if context == "" {
		return
	}
	msg.Headers = append(msg.Headers, sarama.RecordHeader{Key: []byte(traces.Header), Value: []byte(context)})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open[msg] = span
}

// acknowledged ends the span of a record.
func (f *feedTracing) acknowledged(msg *sarama.ProducerMessage) {
	if f == nil || len(msg.Headers) == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if span, ok := f.open[msg]; ok {
		span.SetAttributes(traces.PartitionOf(msg.Partition), traces.KafkaOffset.Int64(msg.Offset))
		span.End()
		delete(f.open, msg)
	}
}

var errNotAcknowledged = errors.New("not acknowledged when the feed ended")

// close ends the spans of records that were not acknowledged.
func (f *feedTracing) close() {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for msg, span := range f.open {
		traces.End(span, errNotAcknowledged)
		delete(f.open, msg)
	}
}
