package spec

import (
	"cmp"
	"time"

	"millrace/pipeline/calendar"
)

// defaultJumpStreak is after how many refused jumps in a row it is likelier that the lane's watermark is wrong than that
// all of them are.
const defaultJumpStreak = 100

// defaults returns what a pipeline has when its file does not say otherwise.
func defaults() *Spec {
	return &Spec{
		Source:    Source{Format: "json"},
		Event:     Event{MaxFuture: Duration(time.Hour), MaxKeyBytes: 1024},
		Watermark: Watermark{IdleTimeout: Duration(30 * time.Second)},
		Retention: Retention{Results: Duration(7 * day), Ledger: Duration(90 * day)},
		Lane: Lane{
			CommitInterval: Duration(time.Second),
			ChunkFields:    512,
			CommitQueue:    1,
			MemoryLimit:    512 << 20,
			Buckets:        16,
			FetchBatches:   2,
			FetchBytes:     1 << 20,
			Overflow:       OverflowBlock,
		},
		Replicas: 1,
	}
}

// complete fills in the defaults that depend on other fields.
func (s *Spec) complete() {
	for i := range s.Aggregates {
		if a := &s.Aggregates[i]; a.Type == "" {
			f, _ := functionNamed(a.Func)
			a.Type = f.DefaultType()
		}
	}
	if s.Results.Redis != nil && s.Results.Redis.Layout == LayoutPages {
		s.Results.Redis = nil
	}
	if s.Event.MaxJump > 0 && s.Event.MaxJumpStreak == 0 {
		s.Event.MaxJumpStreak = defaultJumpStreak
	}
	if s.Event.MaxValueBytes == 0 {
		s.Event.MaxValueBytes = s.defaultValueBytes()
	}
	for i := range s.Windows {
		if w := &s.Windows[i]; w.Slide == 0 {
			w.Slide = w.Size
		}
	}
	for i := range s.Rollups {
		r := &s.Rollups[i]
		r.Timezone = cmp.Or(r.Timezone, calendar.UTC)
		r.Retention = cmp.Or(r.Retention, s.Retention.Results)
	}
}
