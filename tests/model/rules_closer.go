package model

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// closerState is the real store as a closer sees it, without the rule that is off.
type closerState struct {
	*store.Store
	w     *World
	views map[store.LaneID]store.Meta                   // of the last look
	most  map[store.LaneID]int64                        // behind: highest offset ever seen
	pages map[store.LaneID]map[string]map[string]string // metaFirst: entries as they were before the meta was read
	found map[store.LaneID]store.LaneIndex              // oneIndex: the last one
}

func (w *World) stateOf(c *closerProc) result.State {
	return &closerState{
		Store: w.lab.store, w: w, views: map[store.LaneID]store.Meta{}, most: map[store.LaneID]int64{},
		pages: map[store.LaneID]map[string]map[string]string{}, found: map[store.LaneID]store.LaneIndex{},
	}
}

func (s *closerState) LaneView(ctx context.Context, id store.LaneID, stateID string) (store.Meta, []store.SliceStat, error) {
	if s.w.is(metaFirst) {
		copied := map[string]map[string]string{}
		for key, h := range s.w.redis.tag(id.String()).hashes {
			copied[key] = maps.Clone(h)
		}
		s.pages[id] = copied
		for range 3 {
			if !s.w.current.pause() {
				return store.Meta{}, nil, errCrashed
			}
		}
	}
	meta, stats, err := s.Store.LaneView(ctx, id, stateID)
	if err != nil {
		return meta, stats, err
	}
	if s.w.is(behind) {
		meta.Offset = s.highest(id, meta.Offset)
	}
	if s.w.is(generations) {
		stats = flatten(stats)
	}
	if s.w.is(wholeLanes) {
		meta.Balance = store.Balance{}
	}
	s.views[id] = meta
	return meta, stats, nil
}

func (s *closerState) highest(id store.LaneID, offset int64) int64 {
	s.most[id] = max(s.most[id], offset)
	return s.most[id]
}

// flatten makes all generations of a slice look like its first.
func flatten(stats []store.SliceStat) []store.SliceStat {
	var out []store.SliceStat
	for _, st := range stats {
		if st.Folded == 0 {
			continue
		}
		i := slices.IndexFunc(out, func(o store.SliceStat) bool { return o.Start == st.Start })
		if i < 0 {
			st.Gen = 0
			out = append(out, st)
			continue
		}
		out[i].LastOffset = max(out[i].LastOffset, st.LastOffset)
		out[i].Folded += st.Folded
	}
	return out
}

func (s *closerState) ReadGuards(ctx context.Context, ids ...store.LaneID) ([]store.Guard, error) {
	if s.w.is(rereadGuarded) || s.w.is(reread) || s.w.is(metaFirst) {
		guards := make([]store.Guard, len(ids))
		for i, id := range ids {
			view := s.views[id]
			guards[i] = view.Guard()
		}
		return guards, nil
	}
	guards, err := s.Store.ReadGuards(ctx, ids...)
	if s.w.is(behind) {
		for i := range guards {
			guards[i].Offset = s.highest(ids[i], guards[i].Offset)
		}
	}
	return guards, err
}

func (s *closerState) ReadSlice(ctx context.Context, id store.LaneID, stateID string, sl store.SliceID, from, to int,
	fn func(bucket int, key, entry []byte) error) (guard store.Guard, err error) {
	view := s.views[id]
	switch s.w.off {
	case metaFirst:
		return view.Guard(), s.stale(id, stateID, sl, from, to, fn)
	case generations:
		for gen := range 4 {
			sl.Gen = gen
			if guard, err = s.Store.ReadSlice(ctx, id, stateID, sl, from, to, fn); err != nil {
				return guard, err
			}
		}
		return guard, nil
	case exactStamps:
		inner := fn
		fn = func(bucket int, key, entry []byte) error {
			return inner(bucket, key, restamp(entry, func(stamp int64) int64 { return min(stamp, max(view.Offset, 0)) }))
		}
	}
	guard, err = s.Store.ReadSlice(ctx, id, stateID, sl, from, to, fn)
	switch s.w.off {
	case behind:
		guard.Offset = s.highest(id, guard.Offset)
	case rereadGuarded, guards:
		guard = view.Guard()
	}
	return guard, err
}

// stale serves a slice from the copy that was made before the meta was read.
func (s *closerState) stale(id store.LaneID, stateID string, sl store.SliceID, from, to int,
	fn func(bucket int, key, entry []byte) error) error {
	for b := from; b < to; b++ {
		h := s.pages[id][fmt.Sprintf("mr:{%s}:s:%s:%s:%d", id, stateID, sl, b)]
		for _, key := range slices.Sorted(maps.Keys(h)) {
			if err := fn(b, []byte(key), []byte(h[key])); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *closerState) ReadCtl(ctx context.Context, ids ...store.LaneID) ([]store.Ctl, error) {
	ctls, err := s.Store.ReadCtl(ctx, ids...)
	if s.w.is(finals) {
		for i := range ctls {
			ctls[i].DropBefore = store.NoTime
		}
	}
	return ctls, err
}

func (s *closerState) AskRewrite(ctx context.Context, id store.LaneID, owner store.Token, seq int64) error {
	if s.w.is(asksAgain) {
		return nil
	}
	return s.Store.AskRewrite(ctx, id, owner, seq)
}

func (s *closerState) SetDrop(ctx context.Context, id store.LaneID, owner store.Token, before int64) (store.Ctl, error) {
	s.w.checkDrop(id.Partition, before)
	return s.Store.SetDrop(ctx, id, owner, before)
}

// anybodys is the attempt of every closer where none has its own.
const anybodys = "anybody's"

func (s *closerState) WriteDraft(ctx context.Context, id store.WindowID, v store.Version, attempt string, written int,
	fields []store.ViewField) error {
	if s.w.is(ownAttempt) {
		attempt = anybodys
	}
	return s.Store.WriteDraft(ctx, id, v, attempt, written, fields)
}

func (s *closerState) DiscardDraft(ctx context.Context, id store.WindowID, v store.Version, attempt string) error {
	if s.w.is(ownAttempt) {
		attempt = anybodys
	}
	return s.Store.DiscardDraft(ctx, id, v, attempt)
}

// attempt is a view as Redis hears of it.
func (s *closerState) attempt(view store.View) store.View {
	if s.w.is(ownAttempt) && view.Whole > 0 {
		if view.Attempt = anybodys; view.Change != "" {
			view.Change = anybodys
		}
	}
	return view
}

// ReadDirectory implements result.State.
func (s *closerState) ReadDirectory(ctx context.Context, id store.WindowID, rev int) (store.View, []byte, error) {
	shown, text, err := s.Store.ReadDirectory(ctx, id, rev)
	if row := s.rowOf(id, rev); s.w.is(ownAttempt) && err == nil && row != nil && row.View != nil {
		shown.Attempt = row.View.Attempt
	}
	return shown, text, err
}

// rowOf is the ledger row of a revision.
func (s *closerState) rowOf(id store.WindowID, rev int) (found *ledger.Row) {
	rows := s.w.ledger.rows[windowID{id.Window, id.Start}]
	for i := range rows {
		if rows[i].Revision == rev {
			found = &rows[i]
		}
	}
	return found
}

func (s *closerState) Flip(ctx context.Context, id store.WindowID, v store.Version, final bool, row []byte, view store.View,
	fields []store.ViewField, gone []string, rows *store.Rows) error {
	if s.w.is(upwards) {
		if !s.w.current.pause() {
			return errCrashed
		}
		n := strconv.Itoa(v.Revision)
		_, err := s.w.execute([]string{"hset", "mr:{" + id.String() + "}:ledger", "row:" + n, string(row), "current", n}, nil)
		return err
	}
	return s.Store.Flip(ctx, id, v, final, row, s.attempt(view), fields, gone, rows)
}

// closerKafka is the Kafka in memory as a closer sees it, without the rule that is off.
type closerKafka struct {
	result.Kafka
	w     *World
	cache map[int32][]source.Record // ledgerAfter: by slot, read too early
	next  map[int32]int64
}

func (w *World) kafkaOf(*closerProc) result.Kafka {
	return &closerKafka{Kafka: w.kafka, w: w, cache: map[int32][]source.Record{}, next: map[int32]int64{}}
}

func (k *closerKafka) Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	ends, err := k.Kafka.Ends(ctx, tps...)
	if err == nil && k.w.is(closerAsks) {
		for tp, e := range ends {
			e.HighWatermark = atoi(k.w.meta(int(tp.Partition), "offset"))
			ends[tp] = e
		}
	}
	return ends, err
}

func (k *closerKafka) ReadCommitted(ctx context.Context, tp source.TopicPartition, from int64,
	fn func(source.Record) error) (int64, error) {
	isLedger := tp.Topic == ledger.Topic(pipeline)
	if records, ok := k.cache[tp.Partition]; ok && isLedger {
		delete(k.cache, tp.Partition)
		for _, r := range records {
			if r.Offset >= from {
				if err := fn(r); err != nil {
					return from, err
				}
			}
		}
		return max(from, k.next[tp.Partition]), nil
	}
	if isLedger && k.w.is(finals) {
		inner := fn
		fn = func(r source.Record) error {
			r.Value = bytes.Replace(r.Value, []byte(`"final":true`), []byte(`"final":false`), 1)
			return inner(r)
		}
	}
	if isLedger {
		fn = k.floors(tp, fn)
	}
	return k.Kafka.ReadCommitted(ctx, tp, from, fn)
}

// floors shows floors to a closer as they are without the rule that is off.
func (k *closerKafka) floors(tp source.TopicPartition, fn func(source.Record) error) func(source.Record) error {
	return func(r source.Record) error {
		rec, err := ledger.ParseRecord(tp, r)
		if err != nil || rec.Floor == nil {
			return fn(r)
		}
		f := rec.Floor
		switch {
		case k.w.is(floorsBind):
			return nil
		case k.w.is(floorsTrue) && f.Edition > k.w.ended:
			f.End += floorLeap
		case k.w.is(floorsEdition) && f.Edition <= k.w.ended:
			f.Edition = k.w.ended + 1
		default:
			return fn(r)
		}
		if r.Value, err = json.Marshal(f); err != nil {
			return err
		}
		return fn(r)
	}
}

// floorLeap is by how much floors are too high without the rule that they are true.
const floorLeap = 20_000

func (k *closerKafka) Open(ctx context.Context, slot int) (publish.Producer, error) {
	if k.w.is(ledgerAfter) {
		tp := source.TopicPartition{Topic: ledger.Topic(pipeline), Partition: int32(slot)}
		var records []source.Record
		next, err := k.Kafka.ReadCommitted(ctx, tp, 0, func(r source.Record) error {
			records = append(records, r)
			return nil
		})
		if err != nil {
			return nil, err
		}
		k.cache[tp.Partition], k.next[tp.Partition] = records, next
	}
	if k.w.is(fixedID) {
		k.w.born++
		slot += slots * k.w.born
	}
	p, err := k.Kafka.Open(ctx, slot)
	if err != nil {
		return nil, err
	}
	return &closerProducer{Producer: p, w: k.w}, nil
}

// closerProducer is a producer in memory without the rule that is off.
type closerProducer struct {
	publish.Producer
	w        *World
	inLedger bool // a record of the ledger was appended since the last Flush
}

func (p *closerProducer) Append(ctx context.Context, r *publish.Record) error {
	if strings.HasSuffix(r.Topic, ".ledger") {
		first := !p.inLedger
		p.inLedger = true
		switch {
		case p.w.off == oneTxn && first:
			if err := p.Commit(); err != nil {
				return err
			}
			if err := p.Begin(); err != nil {
				return err
			}
		case p.w.off == coverFirst:
			var row ledger.Row
			if ledger.IsFloorKey(r.Key) || json.Unmarshal(r.Value, &row) != nil {
				break // tombstones
			}
			for i := range row.Lanes {
				row.Lanes[i].Offset = max(row.Lanes[i].Offset, atoi(p.w.meta(int(row.Lanes[i].Partition), "offset")))
			}
			text, err := json.Marshal(row)
			if err != nil {
				return err
			}
			changed := *r
			changed.Value = text
			return p.Producer.Append(ctx, &changed)
		}
	}
	return p.Producer.Append(ctx, r)
}

func (p *closerProducer) Flush(ctx context.Context) ([]source.Appended, error) {
	p.inLedger = false
	return p.Producer.Flush(ctx)
}

// meta is one field of a lane's meta as Redis holds it now.
func (w *World) meta(p int, field string) string {
	return w.laneTag(p).hashes["mr:{"+laneID(p).String()+"}:meta"][field]
}
