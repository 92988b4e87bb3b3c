package model

import (
	"fmt"
	"slices"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// jump is how far, in ms, events jump in the climate of that name.
const jump = 30 * 60_000

// origin is where event time begins: the start of a window of every size.
const origin = int64(1_699_920_000_000)

// What a record of the source is.
const (
	good = iota
	invalid
	ahead
	past
	filtered
	marker // of a transaction: an offset at which nothing is delivered
)

// event is one offset of a source partition, as the model knows it without decoding.
type event struct {
	kind int
	ms   int64
	key  byte
	v    int64
	at   int // step in which it was appended
}

// partition is one partition of the source topic.
type partition struct {
	events  []event
	records []source.Record // Value nil at markers
	quiet   int             // step up to which nothing is appended
	behind  bool            // it goes on where it fell silent, not where the others are
	refused int             // step up to which it gets nothing but records that are refused
	now     int64           // ms, of its last event
	refs    []*reference
}

func (p *partition) end() int64 { return int64(len(p.events)) }

// produce appends a few records to some partition: mostly in order, some out of order, late, invalid, too far ahead or
// filtered out; partitions fall silent and come back with something old.
func (w *World) produce() {
	n := w.rng.IntN(len(w.parts))
	p := w.parts[n]
	if w.step < p.quiet {
		return
	}
	if p.behind && w.rng.IntN(8) == 0 {
		p.behind = false
	}
	if w.sky == Jumps && w.rng.IntN(40) == 0 {
		w.now += jump // the time of the events behind it is right
	}
	refused := w.step < p.refused
	for range 1 + w.rng.IntN(4) {
		w.now += w.rng.Int64N(w.pace)
		if p.now = p.now + w.rng.Int64N(w.pace); !p.behind {
			p.now = w.now
		}
		e := event{kind: good, ms: p.now - w.rng.Int64N(6_000), key: 'a' + byte(w.rng.IntN(w.keys)), at: w.step}
		v := w.rng.Int64N(100) + 20
		switch w.rng.IntN(30) {
		case 0, 1, 2:
			e.ms = p.now - w.rng.Int64N(40_000)
		case 3:
			e.ms = p.now - w.rng.Int64N(120_000)
		case 4:
			e.kind = invalid
		case 5:
			e.kind = filtered
			v = 13
		case 6:
			e.kind = ahead
			e.ms = w.now + 2*3_600_000
		case 7:
			e.kind = marker
		case 8:
			e.kind = past
			e.ms = w.now - 2*3_600_000
		}
		if w.sky == Jumps && w.rng.IntN(12) == 0 {
			e.kind, e.ms = good, p.now+jump
			if v = w.rng.Int64N(100) + 20; w.rng.IntN(2) == 0 {
				e.kind, v = filtered, 13
			}
		}
		if refused {
			switch w.rng.IntN(3) {
			case 0:
				e.kind = invalid
			case 1:
				e.kind, e.ms = ahead, w.now+2*3_600_000
			case 2:
				e.kind, e.ms = past, w.now-2*3_600_000
			}
		}
		w.put(n, e, v)
	}
	if w.rng.IntN(2*w.silence) == 0 || w.sky == Refused && n == 0 && w.rng.IntN(4) == 0 {
		p.refused = w.step + w.rng.IntN(w.steps/6)
	}
	if (!w.recedes || n == 0) && w.rng.IntN(w.silence) == 0 {
		p.quiet = w.step + w.rng.IntN(w.steps/4)
		p.behind = w.recedes || w.rng.IntN(2) == 0
	}
}

// comeBack lets a partition that fell silent go on just when a seal that makes that late is asked for, or was adopted.
func (w *World) comeBack(n int) {
	if p := w.parts[n]; w.recedes && w.rng.IntN(2) == 0 {
		p.quiet = 0
		for range 1 + w.rng.IntN(3) {
			w.put(n, event{kind: good, ms: p.now - w.rng.Int64N(3_000), key: 'a', at: w.step}, 21)
		}
	}
}

func (w *World) put(n int, e event, v int64) {
	p := w.parts[n]
	if (e.kind == good || e.kind == filtered) && e.ms < w.now-w.spec.Event.MaxPast.Millis() {
		e.kind = past
	}
	e.v = v
	tp := source.TopicPartition{Topic: topic, Partition: int32(n)}
	r := source.Record{Offset: p.end(), Timestamp: w.now}
	switch e.kind {
	case marker:
		w.kafka.AppendMarker(tp)
	case invalid:
		r.Value = []byte(`{"k":`)
	default:
		r.Value = fmt.Appendf(nil, `{"k":"%c","t":%d,"v":%d}`, e.key, e.ms, v)
	}
	if e.kind != marker {
		w.kafka.Append(tp, r)
	}
	p.events, p.records = append(p.events, e), append(p.records, r)
	w.logf("append %d/%d kind %d time %+d", n, r.Offset, e.kind, e.ms-origin)
}

// batch is what a reader at offset from gets: at most n offsets.
func (p *partition) batch(from int64, n int) *source.Batch {
	b := &source.Batch{Next: min(p.end(), from+int64(n)), HighWatermark: p.end()}
	for _, r := range p.records[from:b.Next] {
		if r.Value != nil {
			b.Records = append(b.Records, r)
		}
	}
	return b
}

// ruling is what decides a lane's events from an offset on and does not follow from its log: a seal that it adopted, or an
// operator's answer that its next jump be accepted.
type ruling struct {
	offset    int64
	before    int64 // of a seal: everything before this time is late; of an answer: a time beyond all events so far
	accept    bool  // no seal but an answer
	asked     int   // step in which the lane asked the broker for its end
	effective bool  // an answer, or a seal beyond the lane's own watermark
	rewrites  bool  // at an offset below one that was committed before: Redis had lost more than one lane's memory
}

// placed is what becomes of one offset.
type placed struct {
	refused, jumped bool // a jump is refused, or was accepted
	folded, late    bool

	start int64 // slice, when the event was folded
	gen   int
	wm    int64 // what lateness was decided with
	own   int64 // the lane's own watermark then
}

// reference decides every event of a partition as the definitions say, under one history of rulings.
type reference struct {
	rulings []*ruling
	placed  []placed
	counts  []store.Counters // after each offset
	used    map[*ruling]bool // answers whose jump has come
	max     int64
}

// reference returns what becomes of the partition's events under a history of rulings.
func (w *World) reference(n int, rulings []*ruling) *reference {
	p := w.parts[n]
	i := slices.IndexFunc(p.refs, func(r *reference) bool { return slices.Equal(r.rulings, rulings) })
	if i < 0 {
		i = len(p.refs)
		p.refs = append(p.refs, &reference{rulings: slices.Clone(rulings), used: map[*ruling]bool{}, max: window.NoTime})
	}
	r := p.refs[i]
	w.extend(r, p)
	return r
}

func (w *World) extend(r *reference, p *partition) {
	var c store.Counters
	if n := len(r.counts); n > 0 {
		c = r.counts[n-1]
	}
	for i := len(r.placed); i < len(p.events); i++ {
		e, out := &p.events[i], placed{own: r.watermark(w.setup, r.max)}
		out.wm = max(out.own, sealedAt(r.rulings, int64(i)))
		if e.kind != marker {
			c.Read++
		}
		switch e.kind {
		case invalid:
			c.Invalid++
		case ahead:
			c.Ahead++
		case past:
			c.Past++
		case good, filtered:
			most := w.spec.Event.MaxJump.Millis()
			if out.jumped = most > 0 && r.max != window.NoTime && e.ms-r.max > most; out.jumped {
				if out.jumped = r.accepts(int64(i)); !out.jumped {
					out.refused = true
					c.Jumped++
					break
				}
			}
			if e.ms > r.max {
				r.max = e.ms
				r.takeBack(int64(i))
			}
			if e.kind == filtered {
				c.Filtered++
				break
			}
			out.start = w.plan.SliceStart(e.ms)
			out.gen, out.late = w.plan.Place(out.start, out.wm)
			if out.folded = !out.late; out.late {
				c.Late++
			} else {
				c.Folded++
			}
		}
		r.placed, r.counts = append(r.placed, out), append(r.counts, c)
	}
}

func (r *reference) watermark(s *setup, latest int64) int64 {
	if latest == window.NoTime {
		return window.NoTime
	}
	return latest - s.spec.Watermark.OutOfOrderness.Millis()
}

// accepts reports whether there is an answer that the jump at offset be accepted.
func (r *reference) accepts(offset int64) bool {
	return slices.ContainsFunc(r.rulings, func(x *ruling) bool { return x.accept && x.offset <= offset && !r.used[x] })
}

// takeBack ends what answers up to offset are good for: the watermark has moved there.
func (r *reference) takeBack(offset int64) {
	for _, x := range r.rulings {
		if x.accept && x.offset <= offset {
			r.used[x] = true
		}
	}
}

// at is the lane's own watermark when it has read everything below offset.
func (r *reference) at(s *setup, offset int64) int64 {
	if offset < int64(len(r.placed)) {
		return r.placed[offset].own
	}
	return r.watermark(s, r.max)
}

// moves reports whether the event at offset could move the watermark.
func (r *reference) moves(p *partition, offset int64) bool {
	e := &p.events[offset]
	return (e.kind == good || e.kind == filtered) && !r.placed[offset].refused
}

func (r *reference) counters(offset int64) store.Counters {
	if offset <= 0 {
		return store.Counters{}
	}
	return r.counts[offset-1]
}

// sealedAt is the seal in force for the record at offset.
func sealedAt(rulings []*ruling, offset int64) int64 {
	before := int64(window.NoTime)
	for _, s := range rulings {
		if s.offset <= offset && !s.accept {
			before = max(before, s.before)
		}
	}
	return before
}
