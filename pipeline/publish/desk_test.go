package publish_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// desk is a pipeline p of which only the publishing is there: one slot, a Kafka in memory, an in-process Redis and a clock.
type desk struct {
	t      testing.TB
	kafka  *publishtest.Kafka
	redis  *miniredis.Miniredis
	faults *storetest.Faults
	store  *store.Store
	keep   spec.Retention
	now    time.Time
	sink   string // result topic, "" for none
	plain  bool   // Redis holds plain rows
	whole  string // why corrections are whole, see publish.Config
}

func newDesk(t testing.TB) *desk {
	d := &desk{t: t, kafka: newLedgerKafka(), redis: miniredis.RunT(t), keep: keepFor(t, "1h"), now: time.UnixMilli(base), sink: "out"}
	d.kafka.AddTopic("out", 3)
	d.kafka.SetTopicID("out", "first")
	d.kafka.AddTopic(ledger.StatesTopic("p"), 2)
	d.kafka.SetClock(func() time.Time { return d.now })
	client := storetest.Client(t, d.redis.Addr(), false)
	d.faults = storetest.NewFaults(storetest.Client(t, d.redis.Addr(), false))
	client.AddHook(d.faults)
	d.store = store.New(client)
	return d
}

// pass lets time pass, also for Redis.
func (d *desk) pass(by time.Duration) {
	d.now = d.now.Add(by)
	d.redis.FastForward(by)
}

// slot is the slot as one more closer, in a process of its own, sees it.
func (d *desk) slot() *publish.Slot {
	s := publish.New(publish.Config{
		Pipeline: "p", Families: []string{"hour"}, Spec: "v", Kafka: d.kafka, State: d.store, Keep: d.keep,
		Now: func() time.Time { return d.now }, PlainRows: d.plain, KeepsWhole: func() string { return d.whole },
	})
	d.t.Cleanup(s.Close)
	return s
}

func (d *desk) contents() *publish.Contents {
	return &publish.Contents{Kafka: d.kafka, State: d.store, Render: renderTest, Wait: time.Second}
}

// renderTest is the values of a state in these tests: a state is its value with an s before it, and a | with what no value
// shows.
func renderTest(state []byte) ([]byte, bool, error) {
	if !bytes.HasPrefix(state, []byte("s")) {
		return nil, false, fmt.Errorf("no state: %q", state)
	}
	values, _, _ := bytes.Cut(state[1:], []byte("|"))
	return values, false, nil
}

// rows are contents of a window by key; "-" is a key that has left.
type rows map[string]string

func (r rows) emit(states bool, emit func(ledger.Content) error) error {
	for _, key := range slices.Sorted(maps.Keys(r)) {
		c := ledger.Content{Key: []byte(key), Values: []byte(r[key]), Deleted: r[key] == "-"}
		if c.Deleted {
			c.Values = []byte("{}")
		} else if states {
			c.State = append([]byte("s"), c.Values...)
		}
		if err := emit(c); err != nil {
			return err
		}
	}
	return nil
}

func (r rows) sum() (checksum string, keys int64) {
	var sum ledger.Checksum
	_ = r.emit(false, func(c ledger.Content) error { sum.AddContent(c); return nil })
	return sum.String(), sum.Rows()
}

// change is rows of which some keys of 400 are new, have other values, or are gone, and which those are.
func (r rows) change(rnd *rand.Rand) (changed rows, touched []string) {
	changed = maps.Clone(r)
	for range rnd.IntN(4) + 1 {
		key := fmt.Sprintf(`{"k":%d}`, rnd.IntN(400))
		touched = append(touched, key)
		if rnd.IntN(4) > 0 {
			changed[key] = fmt.Sprintf(`{"n":%d}`, rnd.IntN(5))
		} else {
			delete(changed, key)
		}
	}
	return changed, touched
}

// without is what a reader finds of the rows.
func (r rows) without() rows {
	out := maps.Clone(r)
	maps.DeleteFunc(out, func(_, v string) bool { return v == "-" })
	return out
}

func (d *desk) row(n int64, reason string) *ledger.Row {
	return &ledger.Row{
		Version: ledger.RowVersion, Pipeline: "p", Window: "hour", Start: n * hour, End: (n + 1) * hour, Edition: ledger.Edition,
		Revision: 1, Reason: reason, Final: true, Spec: "v", By: "test", ClosedAt: d.now.UnixMilli(), Algorithm: ledger.ChecksumAlgorithm,
		Lanes: []ledger.Cover{{Topic: "t", Offset: 5, LastOffset: -1, FirstOffset: -1}}, PublishedTo: d.sink,
	}
}

// content is a window's content as lanes say it: by the hash of the keys.
type content struct {
	rows    rows
	touched []string // keys that may have changed since the latest revision; nil: all
	asked   int      // rows that ranges were asked for
	states  bool     // rows have states
	unseen  rows     // and these some more in them
}

func hashOf(key string) uint64 { return agg.HashOfJSON([]byte(key)) }

func (c *content) ByHash() bool { return true }
func (c *content) Bytes() int64 { return int64(len(c.rows)) * 1000 }

func (c *content) Events() (n int64, counted bool) { return int64(len(c.rows)), true }

func (c *content) Whole(ctx context.Context, emit func(*ledger.Rows) error) (int64, bool, error) {
	return int64(len(c.rows)), true, c.Ranges(ctx, []page.HashRange{{First: 0, Last: math.MaxUint64}}, nil, emit)
}

func (c *content) Changed(_ context.Context, limit int) (hashes []uint64, all bool, err error) {
	for _, key := range c.touched {
		hashes = append(hashes, hashOf(key))
	}
	slices.Sort(hashes)
	return hashes, c.touched == nil || len(hashes) > limit, nil
}

func (c *content) Ranges(_ context.Context, ranges []page.HashRange, _ []publish.BasePage, emit func(*ledger.Rows) error) error {
	keys := slices.SortedFunc(maps.Keys(c.rows), func(a, b string) int {
		return cmp.Compare(hashOf(a), hashOf(b))
	})
	var hasher ledger.Hasher
	for _, r := range ranges {
		for _, key := range keys {
			hash := hashOf(key)
			if hash < r.First || hash > r.Last {
				continue
			}
			c.asked++
			row := ledger.Content{Key: []byte(key), Values: []byte(c.rows[key])}
			if c.states {
				row.State = []byte("s" + c.rows[key] + c.unseen[key])
			}
			err := emit(&ledger.Rows{
				Content: []ledger.Content{row}, Hashes: []uint64{hash}, Digests: []ledger.Digest{hasher.Digest(row)}, Events: []int64{1},
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// publish publishes a revision of window n as a closer does that lanes ask to.
func (d *desk) publish(s *publish.Slot, n int64, final bool, rows rows) *ledger.Row {
	d.t.Helper()
	return d.publishContent(s, n, final, &content{rows: rows})
}

func (d *desk) publishContent(s *publish.Slot, n int64, final bool, c *content) *ledger.Row {
	d.t.Helper()
	var row *ledger.Row
	require.NoError(d.t, s.Do(func(h *publish.Held) error {
		r, err := h.Publish(d.t.Context(), d.draft(h, n, final), c)
		if err != nil {
			return err
		}
		row = r.Row
		return h.ShowRows(d.t.Context())
	}))
	return row
}

func (d *desk) draft(h *publish.Held, n int64, final bool) *publish.Draft {
	d.t.Helper()
	require.NoError(d.t, h.TakeOver(d.t.Context()))
	row := d.row(n, ledger.ReasonWatermark)
	latest, err := h.LatestRow(d.t.Context(), row.ID())
	require.NoError(d.t, err)
	if row.Final = final; latest != nil {
		row.Revision, row.Reason = latest.Revision+1, ledger.ReasonLate
	}
	return &publish.Draft{Row: row, Latest: latest, Topics: publish.TopicIDs{Results: "first", States: "states"}}
}

// correction is what a replay of the given id would correct of a window: "-" is a key that is found to have left.
func (d *desk) correction(latest *ledger.Row, replay string, content rows) *publish.Correction {
	return d.correctionOf(latest, replay, content, false)
}

func (d *desk) correctionOf(latest *ledger.Row, replay string, content rows, states bool) *publish.Correction {
	d.t.Helper()
	row := d.row(latest.Start/hour, ledger.ReasonReplay)
	checksum, keys := content.sum()
	row.Replay = &ledger.ReplayOrigin{
		ID: replay, BaseRevision: latest.Revision, BaseChecksum: latest.Checksum, Lateness: ledger.LatenessAsRead, Diff: "d-" + checksum,
	}
	base := rows{}
	if latest.Window != "" {
		base = d.read(latest)
	}
	return &publish.Correction{
		Row: row, BaseRevision: latest.Revision, BaseChecksum: latest.Checksum, Checksum: checksum, Keys: keys,
		Topics: publish.TopicIDs{Results: "first", States: "states"}, Content: publish.NewPatch(9, base.changesTo(content.without(), states)),
	}
}

// changesTo are what makes other rows of these.
func (r rows) changesTo(other rows, states bool) (changes []publish.Change) {
	_ = other.emit(states, func(c ledger.Content) error {
		old, ok := r[string(c.Key)]
		if ok && old == string(c.Values) {
			return nil
		}
		change := publish.Change{New: ledger.Content{Key: c.Key, Values: c.Values, State: bytes.Clone(c.State)}}
		if ok {
			change.Old = []byte(old)
		}
		changes = append(changes, change)
		return nil
	})
	for key, old := range r {
		if _, ok := other[key]; !ok {
			gone := ledger.Content{Key: []byte(key), Values: []byte(old), Deleted: true}
			changes = append(changes, publish.Change{Old: []byte(old), New: gone})
		}
	}
	return changes
}

// inOrder is all rows of a content, as what mends a window publishes them.
func (r rows) inOrder(states bool) publish.Content {
	return publish.InOrder{Rows: func(_ context.Context, emit func(ledger.Content) error) (int64, error) {
		return 9, r.emit(states, emit)
	}}
}

// tryCorrect corrects a window as a closer does: what the base holds is read when that is asked for.
func (d *desk) tryCorrect(s *publish.Slot, c *publish.Correction) (done publish.Corrected, err error) {
	d.t.Helper()
	for {
		err = s.Do(func(h *publish.Held) (err error) {
			if done, err = h.Correct(d.t.Context(), c); err != nil {
				return err
			}
			return h.ShowRows(d.t.Context())
		})
		var unread *publish.BaseUnreadError
		if !errors.As(err, &unread) {
			return done, err
		}
		read := d.contents().Read
		if len(unread.Row.States) > 0 {
			read = d.contents().ReadStates
		}
		base, err := read(d.t.Context(), unread.Row)
		if err != nil {
			return done, err
		}
		copied := *c
		copied.Base = &publish.Base{Rows: base}
		c = &copied
	}
}

func (d *desk) correct(s *publish.Slot, c *publish.Correction) publish.Corrected {
	d.t.Helper()
	done, err := d.tryCorrect(s, c)
	require.NoError(d.t, err)
	return done
}

// latest is the row that a reader of the ledger finds of window n, nil without one.
func (d *desk) latest(n int64) *ledger.Row {
	d.t.Helper()
	all, err := ledger.Latest(d.t.Context(), d.kafka, "p")
	require.NoError(d.t, err)
	for i := range all {
		if all[i].Start == n*hour {
			return &all[i]
		}
	}
	return nil
}

// history lists the revisions of window n in the order of the log.
func (d *desk) history(n int64) (all []string) {
	d.t.Helper()
	require.NoError(d.t, ledger.Read(d.t.Context(), d.kafka, "p", func(rec ledger.Record) error {
		if rec.Row != nil && rec.Row.Start == n*hour {
			all = append(all, fmt.Sprintf("r%d %s", rec.Row.Revision, rec.Row.Reason))
		}
		return nil
	}))
	return all
}

// read is the content that a reader finds of a row.
func (d *desk) read(row *ledger.Row) rows {
	d.t.Helper()
	content, err := d.contents().Read(d.t.Context(), row)
	require.NoError(d.t, err)
	return asRows(content)
}

func asRows(content []ledger.Content) rows {
	out := rows{}
	for _, c := range content {
		out[string(c.Key)] = string(c.Values)
	}
	return out
}

// view is what Redis shows of window n, and what it holds of that; nil when it shows nothing.
func (d *desk) view(n int64) (*ledger.Row, rows) {
	d.t.Helper()
	p, found, err := d.store.Published(d.t.Context(), store.WindowID{Pipeline: "p", Window: "hour", Start: n * hour})
	require.NoError(d.t, err)
	if !found {
		return nil, nil
	}
	row := new(ledger.Row)
	require.NoError(d.t, json.Unmarshal(p.Row, row))
	shown := *row
	shown.PublishedTo, shown.States = "", nil
	return row, d.read(&shown)
}
