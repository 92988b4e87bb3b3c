package publish

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
)

const (
	retentionMS = "retention.ms"

	// kafkaKeeps is Kafka's default for it, which a topic is taken to have that may not be looked at.
	kafkaKeeps = 7 * 24 * time.Hour

	// latestShown is how long a correction that only Redis holds may wait to be shown: until then the
	// content that it changes must not expire. What it changes is kept for as long.
	latestShown = 24 * time.Hour

	// lanesAsk is from which age of the latest revision on one by lanes asks how long topics keep what
	// it builds on: most of them follow one another sooner.
	lanesAsk = time.Hour

	// keepsTrust is how long it is believed what a topic keeps.
	keepsTrust = time.Minute
)

// topicRetention is how long a topic keeps its records.
type topicRetention struct {
	keeps   time.Duration
	bounded bool // else it keeps them for ever
	asked   time.Time
}

// outlives reports whether the rows of the latest revision stay in the result topic as long as what a new one makes of them is
// shown, and its states in the states topic as long as that may be corrected. Whoever starts a pipeline checks that the topics
// keep both long enough for lanes whose watermark follows the clock. A correction may come as late as it likes, and so may a
// revision of lanes that were paused or quiet, and the window is shown, and may be corrected, from then on as long as any other.
// Without a result topic the content in Redis has to stay until a correction is shown, whoever does that.
func (h *Held) outlives(ctx context.Context, d *Draft) (bool, error) {
	l, keep := d.Latest, h.keep.of(d.Latest.Window)
	switch byLanes := d.Row.ByLanes(); {
	case byLanes && h.keep.now().Sub(time.UnixMilli(l.ClosedAt)) < lanesAsk:
		return true, nil
	case !byLanes && l.PublishedTo == "" && h.shownFor(l) < min(latestShown, keep.Results.Std()/2):
		return false, nil
	}
	if stays, err := h.staysFor(ctx, l.PublishedTo, l.Links, keep.Results.Std()); err != nil || !stays {
		return false, err
	}
	return h.staysFor(ctx, ledger.StatesTopic(l.Pipeline), l.States, keep.Ledger.Std())
}

// shownFor is how much longer Redis keeps the content of a final row.
func (h *Held) shownFor(l *ledger.Row) time.Duration {
	if h.archives && l.Archive == nil {
		return untilArchived
	}
	return h.keep.timeLeft(l.Window, l.ClosedAt)
}

// staysFor reports whether a topic keeps what links name for some time from now on.
func (h *Held) staysFor(ctx context.Context, topic string, links []ledger.Link, long time.Duration) (bool, error) {
	if len(links) == 0 {
		return true, nil
	}
	kept, err := h.retentionOf(ctx, topic)
	if err != nil || !kept.bounded {
		return err == nil, err
	}
	sent, found, err := h.sentAt(ctx, topic, links)
	if err != nil || !found {
		return false, err
	}
	return !sent.Add(kept.keeps).Before(h.keep.now().Add(long)), nil
}

// retentionOf asks the broker how long a topic keeps its records, or takes what it said a moment ago.
func (h *Held) retentionOf(ctx context.Context, topic string) (topicRetention, error) {
	known, ok := h.topics[topic]
	if now := h.keep.now(); ok && now.Sub(known.asked) < keepsTrust {
		return known, nil
	}
	found := topicRetention{kafkaKeeps, true, h.keep.now()}
	settings, err := h.kafka.TopicSettings(ctx, topic, retentionMS)
	switch {
	case err == nil:
		ms, err := strconv.ParseInt(settings[retentionMS], 10, 64)
		// The broker does not say, or it is for ever: -1, or longer than a Duration.
		found.bounded = err == nil && ms >= 0 && ms <= math.MaxInt64/int64(time.Millisecond)
		found.keeps = time.Duration(ms) * time.Millisecond
	case !source.Denied(err):
		return topicRetention{}, fmt.Errorf("how long topic %s keeps rows: %w", topic, err)
	}
	h.topics[topic] = found
	return found, nil
}

// sentAt is when the first rows that links name were sent: those of one revision went out in one transaction. Where none of
// them has any, they are as good as sent now.
func (h *Held) sentAt(ctx context.Context, topic string, links []ledger.Link) (at time.Time, found bool, err error) {
	first := slices.IndexFunc(links, func(l ledger.Link) bool { return len(l.Partitions) > 0 })
	if first < 0 {
		return h.keep.now(), true, nil
	}
	spans := links[first].Partitions
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
