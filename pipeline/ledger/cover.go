package ledger

import (
	"slices"

	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// MaxSeals is how many seals a Cover names at most. A lane that adopted more while the window was open cannot be counted
// again as it was read.
const MaxSeals = 256

// Cover is one lane's share of a revision. Together with the row's spec it is an anchor: reading the lane's partition
// again from FirstOffset under Basis, adopting Seals where they were adopted, decides every record as it was decided.
type Cover struct {
	Topic      string
	Partition  int32
	Offset     int64 // every event of the window below this offset is in the revision
	LastOffset int64 // of the window's last event in this lane; -1 without one
	Folded     int64 // events of this lane in the window

	// Era tells pasts of a lane apart: offsets and counts of two of them say nothing about each other.
	Era int64

	// What follows stands in rows of version 2 only.

	TopicID     string      // of the topic the offsets belong to; "" when the brokers know no ids
	FirstOffset int64       // of the first event of the slices merged; -1 without one
	Basis       store.Basis // just before FirstOffset; not known without one
	Seals       []store.Seal
	Recountable bool // Basis and Seals are complete
}

// SetAnchor fills in what version 2 adds, from what the lane says about itself and the first slice that the revision
// merges, in the order of events; first is nil for a lane without an event of the window.
func (c *Cover) SetAnchor(meta *store.Meta, first *store.SliceStat) {
	c.TopicID, c.FirstOffset, c.Recountable = meta.TopicID, -1, true
	if first == nil {
		return
	}
	c.FirstOffset, c.Basis, c.Recountable = first.FirstOffset, first.Basis, first.Basis.Known
	for _, s := range meta.Seals {
		switch {
		case s.Before == store.NoTime && s.Offset > c.FirstOffset: // the lane has forgotten the seals up to here
			c.Seals, c.Recountable = nil, false
		case s.Before != store.NoTime && s.Offset >= c.FirstOffset && s.Offset < c.Offset:
			c.Seals = append(c.Seals, s)
		}
	}
	accepted := slices.ContainsFunc(meta.Accepted, func(offset int64) bool { return offset >= c.FirstOffset && offset < c.Offset })
	if len(c.Seals) > MaxSeals || accepted { // what the operator accepted is no part of an anchor
		c.Seals, c.Recountable = nil, false
	}
}

type coverJSON struct {
	Topic      string `json:"topic"`
	Partition  int32  `json:"partition"`
	Offset     int64  `json:"offset"`
	LastOffset int64  `json:"last_offset"`
	Folded     int64  `json:"folded"`
	Era        int64  `json:"era,omitempty"`

	TopicID     string     `json:"topic_id,omitempty"`
	FirstOffset *int64     `json:"first_offset,omitempty"`
	Basis       *basisJSON `json:"basis,omitempty"`
	Seals       []sealJSON `json:"seals,omitempty"`
	Recountable *bool      `json:"recountable,omitempty"`
}

// basisJSON leaves out the times that were not there yet.
type basisJSON struct {
	Watermark *int64         `json:"watermark_ms,omitempty"`
	Sealed    *int64         `json:"sealed_ms,omitempty"`
	Counters  store.Counters `json:"counters"`
}

type sealJSON struct {
	Offset int64 `json:"offset"`
	Before int64 `json:"before_ms"`
}

func (c *Cover) encode(version int) coverJSON {
	out := coverJSON{
		Topic: c.Topic, Partition: c.Partition, Offset: c.Offset, LastOffset: c.LastOffset, Folded: c.Folded, Era: c.Era,
	}
	if version < 2 {
		return out
	}
	out.TopicID, out.FirstOffset, out.Recountable = c.TopicID, &c.FirstOffset, &c.Recountable
	if c.Basis.Known {
		out.Basis = &basisJSON{
			Watermark: encodeTime(c.Basis.Watermark), Sealed: encodeTime(c.Basis.Sealed), Counters: c.Basis.Counters,
		}
	}
	for _, s := range c.Seals {
		out.Seals = append(out.Seals, sealJSON(s))
	}
	return out
}

func (in *coverJSON) decode(version int) Cover {
	c := Cover{
		Topic: in.Topic, Partition: in.Partition, Offset: in.Offset, LastOffset: in.LastOffset, Folded: in.Folded,
		Era: in.Era, FirstOffset: -1,
	}
	if version < 2 {
		return c
	}
	c.TopicID, c.Recountable = in.TopicID, in.Recountable != nil && *in.Recountable
	if in.FirstOffset != nil {
		c.FirstOffset = *in.FirstOffset
	}
	if b := in.Basis; b != nil {
		c.Basis = store.Basis{
			Known: true, Watermark: decodeTime(b.Watermark), Sealed: decodeTime(b.Sealed), Counters: b.Counters,
		}
	}
	for _, s := range in.Seals {
		c.Seals = append(c.Seals, store.Seal(s))
	}
	return c
}

func encodeTime(ms int64) *int64 {
	if ms == window.NoTime {
		return nil
	}
	return &ms
}

func decodeTime(ms *int64) int64 {
	if ms == nil {
		return window.NoTime
	}
	return *ms
}

// Link says where rows or states of a content stand in their topic. A whole revision is its own only link.
type Link struct {
	Revision   int    `json:"revision"`
	TopicID    string `json:"topic_id,omitempty"` // of the topic; "" when it is not known
	Whole      bool   `json:"whole,omitempty"`    // the revision has all rows, not only those that changed
	Partitions []Span `json:"partitions,omitempty"`
}

// Span is a range of offsets, both included, in one partition of the topic. Records of other revisions may lie
// in between.
type Span struct {
	Partition int32 `json:"partition"`
	First     int64 `json:"first"`
	Last      int64 `json:"last"`
}

// Extend makes the link include a record of the result topic.
func (l *Link) Extend(partition int32, offset int64) {
	i, found := slices.BinarySearchFunc(l.Partitions, partition, func(s Span, p int32) int { return int(s.Partition) - int(p) })
	if !found {
		l.Partitions = slices.Insert(l.Partitions, i, Span{Partition: partition, First: offset, Last: offset})
		return
	}
	s := &l.Partitions[i]
	s.First, s.Last = min(s.First, offset), max(s.Last, offset)
}
