package survey

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// A lane claims to be idle when its meta has an idle_end: nothing from there up to its committed offset could move its
// watermark, and nothing could for idle_timeout before. The claim does not say how far the log goes, so it is believed
// only of a lane that has committed everything below an end that the broker named, in this look or shortly before. In a
// partition that gets nothing but records that are refused the end never stands still, and a lane that keeps up has
// reached the end of the look before. One that has read nothing since it made its claim has to be at the end now.

// TrustEnds is how long after it was named an end of a log proves that a lane has read everything: long enough for a lane
// to read and commit up to it. A lane that has stopped is not left out for longer, whatever it claimed before.
func TrustEnds(commitInterval time.Duration) time.Duration { return 2*commitInterval + 3*time.Second }

// Asked remembers which ends of logs the brokers have named. It is safe for concurrent use.
type Asked struct {
	trust time.Duration
	now   func() time.Time

	mu   sync.Mutex
	ends map[store.LaneID][]askedEnd // rising, the oldest first
}

type askedEnd struct {
	topicID string
	end     int64
	at      time.Time
}

// keptEnds bounds the ends that are remembered of a lane, by the least time between two of them.
const keptEnds = 8

// NewAsked remembers ends for as long as they are trusted. now is the clock that decides.
func NewAsked(trust time.Duration, now func() time.Time) *Asked {
	return &Asked{trust: trust, now: now, ends: make(map[store.LaneID][]askedEnd)}
}

// note takes in an end that the broker has just named for the log of topicID, and returns the lowest that still counts.
func (a *Asked) note(id store.LaneID, topicID string, end int64) int64 {
	if a == nil {
		return end
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	ends := a.ends[id]
	for len(ends) > 0 && now.Sub(ends[0].at) > a.trust {
		ends = ends[1:]
	}
	if n := len(ends); n > 0 && (ends[n-1].end > end || ends[n-1].topicID != topicID) {
		ends = nil // the log was cut, or is another
	}
	switch n := len(ends); {
	case n > 0 && ends[n-1].end == end:
		ends[n-1].at = now
	case n == 0 || now.Sub(ends[n-1].at) >= a.trust/keptEnds:
		ends = append(ends[:n:n], askedEnd{topicID, end, now})
	}
	a.ends[id] = ends
	return ends[0].end
}

// proveIdle asks the brokers for the ends of all lanes that claim to be idle. The claims were read before, so a lane that
// has committed everything below the end found now has nothing waiting, and one that has reached an earlier end had
// nothing waiting then.
func (c *Config) proveIdle(ctx context.Context, v *View) error {
	var tps []source.TopicPartition
	for i := range v.Lanes {
		if l := &v.Lanes[i]; c.Lenient || l.claims() {
			tps = append(tps, source.TopicPartition{Topic: l.ID.Topic, Partition: l.ID.Partition})
		}
	}
	if len(tps) == 0 {
		return nil
	}
	ends, err := c.Topics.Ends(ctx, tps...)
	if err != nil {
		return fmt.Errorf("end offsets of idle lanes: %w", err)
	}
	for i := range v.Lanes {
		l := &v.Lanes[i]
		end, ok := ends[source.TopicPartition{Topic: l.ID.Topic, Partition: l.ID.Partition}]
		if l.Ends = end; !l.claims() {
			continue
		}
		topic, err := c.Topics.Topic(ctx, l.ID.Topic) // after the ends: they are of this topic, or of one before it
		if err != nil {
			return fmt.Errorf("id of topic %s: %w", l.ID.Topic, err)
		}
		if l.compareTopic(topic.ID); l.Gone || !ok {
			continue
		}
		// The high watermark, not the last stable offset: records of a transaction that is still open lie between the two.
		log := end.HighWatermark
		reached := c.Asked.note(l.ID, topic.ID, log)
		if l.Meta.Offset == l.Meta.IdleEnd {
			reached = log // it has read nothing since, so nothing says that what is there now is refused as well
		}
		if l.Idle = l.Meta.Offset >= reached && l.Meta.Offset <= log; !l.Idle {
			l.Why = l.unproved(log)
		}
	}
	return nil
}

// Unproved reports whether a lane claims to be idle and is not left out because its log went on: the next look may tell.
func (v *View) Unproved() bool {
	return slices.ContainsFunc(v.Lanes, func(l Lane) bool { return l.claims() && !l.Idle && !l.Gone && l.Meta.Offset > l.Meta.IdleEnd })
}

// claims reports whether the lane says that it is idle.
func (l *Lane) claims() bool { return l.Found && l.Meta.IdleEnd >= 0 && l.Meta.Offset >= 0 }

// unproved says why the lane's claim to be idle is not believed.
func (l *Lane) unproved(log int64) string {
	if l.Meta.Offset > log {
		return fmt.Sprintf("it has read up to offset %d, and its log ends at %d", l.Meta.Offset, log)
	}
	return fmt.Sprintf("it was idle, and %d offsets of its log wait to be read (committed %d, end %d)",
		log-l.Meta.Offset, l.Meta.Offset, log)
}

// findWatermark finds the pipeline's watermark: the lowest of the lanes that are not idle, the greatest when all are.
func (v *View) findWatermark() {
	idle := true
	for i := range v.Lanes {
		l := &v.Lanes[i]
		if l.Idle {
			continue
		}
		mark := int64(window.NoTime)
		if l.Found && !l.Gone {
			mark = l.Meta.Watermark
		}
		if idle || mark < v.Watermark {
			v.Watermark, v.Holder = mark, i
			v.Why = cmp.Or(l.Why, "its watermark is the lowest")
			if l.Why == "" && mark == window.NoTime {
				v.Why = "it has seen no event and is not proved idle"
			}
		}
		idle = false
	}
	if !idle {
		return
	}
	for i := range v.Lanes {
		if l := &v.Lanes[i]; v.Holder < 0 || l.Meta.Watermark > v.Watermark {
			v.Watermark, v.Holder, v.Why = l.Meta.Watermark, i, "all lanes are idle"
		}
	}
}
