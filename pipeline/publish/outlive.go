package publish

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

const (
	retentionMS = "retention.ms"

	// kafkaKeeps is Kafka's default for it, which a topic is taken to have that may not be looked at.
	kafkaKeeps = 7 * 24 * time.Hour
)

// outlives reports whether the rows of the latest revision stay in the result topic as long as what a correction makes of
// them is shown. Lanes need not ask: whoever starts a pipeline checks that the topic keeps rows long enough for them. A
// correction may come as late as it likes, and its window is shown from then on as long as any other.
func (h *Held) outlives(ctx context.Context, d *Draft) (bool, error) {
	l := d.Latest
	if l.PublishedTo == "" || d.Row.ByLanes() {
		return true, nil
	}
	keeps, bounded, err := h.topicKeeps(ctx, l.PublishedTo)
	if err != nil || !bounded {
		return err == nil, err
	}
	sent, found, err := h.sentAt(ctx, l.PublishedTo, l.Links[0].Partitions)
	if err != nil || !found {
		return false, err
	}
	until := h.keep.now().Add(h.keep.of(l.Window).Results.Std())
	return !sent.Add(keeps).Before(until), nil
}

// topicKeeps is how long a topic keeps its records, unless for ever.
func (h *Held) topicKeeps(ctx context.Context, topic string) (keeps time.Duration, bounded bool, err error) {
	settings, err := h.kafka.TopicSettings(ctx, topic, retentionMS)
	if source.Denied(err) {
		return kafkaKeeps, true, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("how long topic %s keeps rows: %w", topic, err)
	}
	ms, err := strconv.ParseInt(settings[retentionMS], 10, 64)
	if err != nil || ms < 0 { // the broker does not say, or it is for ever
		return 0, false, nil
	}
	if ms > int64(1<<63-1)/int64(time.Millisecond) {
		return 0, false, nil
	}
	return time.Duration(ms) * time.Millisecond, true, nil
}

// sentAt is when the rows of a revision were sent: all of them went out in one transaction. A revision without rows is as
// good as sent now.
func (h *Held) sentAt(ctx context.Context, topic string, spans []ledger.Span) (at time.Time, found bool, err error) {
	if len(spans) == 0 {
		return h.keep.now(), true, nil
	}
	tp := source.TopicPartition{Topic: topic, Partition: spans[0].Partition}
	_, err = h.kafka.ReadCommitted(ctx, tp, spans[0].First, func(r source.Record) error {
		at, found = time.UnixMilli(r.Timestamp), r.Offset == spans[0].First
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) && !errors.Is(err, source.ErrOffsetOutOfRange) {
		return time.Time{}, false, fmt.Errorf("when rows in %s were sent: %w", tp, err)
	}
	return at, found, nil
}
