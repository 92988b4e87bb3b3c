package result_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/store/storetest"
	"millrace/pipeline/verify"
)

// difference is what a replay has found, in memory.
type difference struct {
	checksum string
	counted  []result.Counted
	content  map[ledger.WindowID]map[string]string // values by key, as counted
	base     map[ledger.WindowID]map[string]string // and as they were compared with
}

func (d *difference) Open(_ context.Context, _, replay string) (result.Difference, error) {
	if replay != "x" {
		return nil, fmt.Errorf("replay %s: %w", replay, result.ErrNoDifference)
	}
	return d, nil
}

func (d *difference) Checksum() string          { return d.checksum }
func (d *difference) Counted() []result.Counted { return d.counted }

func (d *difference) Changes(_ context.Context, id ledger.WindowID) (changes []publish.Change, _ error) {
	base := d.base[id]
	for key, values := range d.content[id] {
		if old, ok := base[key]; !ok || old != values {
			change := publish.Change{New: ledger.Content{Key: []byte(key), Values: []byte(values)}}
			if ok {
				change.Old = []byte(old)
			}
			changes = append(changes, change)
		}
	}
	for key, old := range base {
		if _, ok := d.content[id][key]; !ok {
			changes = append(changes, publish.Change{
				Old: []byte(old), New: ledger.Content{Key: []byte(key), Values: []byte(old), Deleted: true},
			})
		}
	}
	return changes, nil
}

func (d *difference) Whole(_ context.Context, id ledger.WindowID, emit func(ledger.Content) error) error {
	for _, key := range slices.Sorted(maps.Keys(d.content[id])) {
		if err := emit(ledger.Content{Key: []byte(key), Values: []byte(d.content[id][key])}); err != nil {
			return err
		}
	}
	return nil
}

// replayed is a world with three final windows, and what a replay of them has found: in the first two it counted one more
// event of a key, in the second another key not at all, in the third nothing else.
func replayed(t testing.TB) (*world, *difference) {
	w := newWorld(t, hourly, 2)
	for i, l := range w.lanes {
		for h := range 3 {
			for k := range 4 {
				l.event(fmt.Sprintf("key-%d", k), float64(60*h+10+k), int64(i*10+k))
			}
		}
		l.event("x", 300, 1)
		l.commit()
	}
	w.settle(w.closer())
	return w, w.found()
}

func (w *world) found() *difference {
	w.t.Helper()
	d := &difference{checksum: "d", content: map[ledger.WindowID]map[string]string{}, base: map[ledger.WindowID]map[string]string{}}
	reader := publish.Contents{Kafka: w.kafka, State: w.store}
	for _, row := range w.ledger() {
		if !row.Final {
			continue
		}
		content, err := reader.Read(w.ctx, &row)
		require.NoError(w.t, err)
		values := map[string]string{}
		for _, c := range content {
			values[string(c.Key)] = string(c.Values)
		}
		n := len(d.counted)
		d.base[row.ID()] = maps.Clone(values)
		if n < 2 {
			values[`{"k":"key-0"}`] = strings.Replace(values[`{"k":"key-0"}`], `"n":2`, `"n":3`, 1)
			row.Events++
		}
		if n == 1 {
			delete(values, `{"k":"key-3"}`)
			row.Events -= 2
		}
		w := result.Counted{
			Row: row, BaseRevision: row.Revision, BaseChecksum: row.Checksum, Equal: n >= 2, Scope: ledger.ScopeWhole,
			Read: []ledger.CertifiedLane{{Topic: "orders", To: 13}},
		}
		var sum ledger.Checksum
		for key, v := range values {
			sum.AddContent(ledger.Content{Key: []byte(key), Values: []byte(v)})
		}
		w.Row.Keys, w.Row.Checksum = sum.Rows(), sum.String()
		d.counted, d.content[row.ID()] = append(d.counted, w), values
	}
	return d
}

func (d *difference) use(cfg *result.Config) {
	cfg.Jobs = map[string]result.JobKind{
		result.JobCorrections: result.Corrections{From: d}, result.JobCertify: result.Certify{From: d},
	}
}

func job(kind string) result.Job {
	return result.Job{ID: "replay:orders:x/" + kind, Kind: kind, Body: json.RawMessage(`{"replay":"x","checksum":"d","lateness":"as-read"}`)}
}

// atOnce is a turn that nobody else wants.
func atOnce(ctx context.Context, work func(context.Context) error) error { return work(ctx) }

// carry carries a job out and returns what became of each window, as "<hour> <verdict> r<revision>".
func (w *world) carry(c *result.Closer, job result.Job, turn result.Turn) (said []string, err error) {
	err = c.CarryOut(w.ctx, job, turn, func(done result.Carried) {
		said = append(said, fmt.Sprintf("%d %s r%d", (done.Window.Start-base)/hour, done.Verdict, done.Revision))
	})
	return said, err
}

// corrected is what readers of the result topic find once the corrections are published.
func (d *difference) corrected() map[string]string {
	out := map[string]string{}
	for id, values := range d.content {
		for key, v := range values {
			out[fmt.Sprintf("%s+%dm %s", id.Window, (id.Start-base)/minute, key)] = v
		}
	}
	return out
}

func TestCorrectionsAreCarriedOut(t *testing.T) {
	w, d := replayed(t)
	require.Len(t, d.counted, 3)
	require.NotEqual(t, d.corrected(), w.values())
	c := w.closer(d.use)
	turns := 0
	said, err := w.carry(c, job(result.JobCorrections), func(ctx context.Context, work func(context.Context) error) error {
		turns++
		return work(ctx)
	})
	require.NoError(t, err)
	require.Equal(t, []string{"0 published r2", "1 published r2"}, said)
	require.Equal(t, 2, turns, "one for each window")
	require.Equal(t, d.corrected(), w.values())
	for n, row := range w.ledger()[:2] {
		require.Equal(t, &ledger.ReplayOrigin{ID: "x", BaseRevision: 1, BaseChecksum: d.counted[n].BaseChecksum, Lateness: "as-read", Diff: "d"}, row.Replay)
		require.Equal(t, d.counted[n].Row.Events, row.Events)
		require.Equal(t, d.counted[n].Row.Lanes, row.Lanes)
		require.Equal(t, "test", row.By)
		require.Equal(t, "orders.windows", row.PublishedTo)
		require.Equal(t, "made-first", row.Links[0].TopicID)
	}
	w.sound()

	// Again: nothing happens. What an earlier attempt has booked is not booked again.
	said, err = w.carry(w.closer(d.use), job(result.JobCorrections), atOnce)
	require.NoError(t, err)
	require.Equal(t, []string{"0 done r2", "1 done r2"}, said)
	again := job(result.JobCorrections)
	again.Done = 1
	said, err = w.carry(c, again, atOnce)
	require.NoError(t, err)
	require.Equal(t, []string{"1 done r2"}, said)
	require.Equal(t, []string{"r1 watermark final", "r2 replay final"}, w.history("hourly", base))
	w.settle(w.closer())
	require.Equal(t, d.corrected(), w.values(), "closing goes on and leaves them alone")
	w.sound()
}

func TestCorrectionsLeaveOutWhatHasMoved(t *testing.T) {
	w, d := replayed(t)
	other := w.found()
	other.checksum = "e"
	for id := range other.content {
		other.content[id][`{"k":"z"}`] = `{"n":1}`
	}
	for i := range other.counted {
		var sum ledger.Checksum
		for key, v := range other.content[other.counted[i].Row.ID()] {
			sum.AddContent(ledger.Content{Key: []byte(key), Values: []byte(v)})
		}
		other.counted[i].Row.Keys, other.counted[i].Row.Checksum = sum.Rows(), sum.String()
	}
	another := job(result.JobCorrections)
	another.Body = json.RawMessage(`{"replay":"x","checksum":"e","lateness":"none"}`)
	other.counted = other.counted[:1]
	said, err := w.carry(w.closer(other.use), another, atOnce)
	require.NoError(t, err)
	require.Equal(t, []string{"0 published r2"}, said)

	var problem string
	err = w.closer(d.use).CarryOut(w.ctx, job(result.JobCorrections), atOnce, func(done result.Carried) {
		if done.Verdict == publish.VerdictMoved {
			problem = done.Problem
		}
	})
	require.NoError(t, err)
	require.Equal(t, "the ledger has revision 2, replay, by now", problem)
	require.Equal(t, []string{"r1 watermark final", "r2 replay final"}, w.history("hourly", base))
	require.Equal(t, ledger.LatenessNone, w.ledger()[0].Replay.Lateness)
	require.Equal(t, d.content[d.counted[1].Row.ID()], contentOf(w, 1))
	w.sound()
}

// contentOf is what a reader finds of the window of an hour.
func contentOf(w *world, n int) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for _, r := range w.results() {
		if r.Start == base+int64(n)*hour {
			out[string(r.Key)] = string(r.Values)
		}
	}
	return out
}

// A window whose base is gone fails, and the others go on.
func TestAWindowThatFailsHoldsNobodyUp(t *testing.T) {
	w, d := replayed(t)
	keys, err := w.redis.Keys(w.ctx, "mr:{orders/hourly/*").Result()
	require.NoError(t, err)
	require.NoError(t, w.redis.Del(w.ctx, keys...).Err())
	gone := d.counted[0].Row.Links[0].Partitions
	kafka := &holes{Kafka: w.kafka, from: gone}
	var said []result.Carried
	c := w.closer(d.use, func(cfg *result.Config) { cfg.Kafka = kafka })
	require.NoError(t, c.CarryOut(w.ctx, job(result.JobCorrections), atOnce, func(done result.Carried) { said = append(said, done) }))
	require.Len(t, said, 2)
	require.Empty(t, said[0].Verdict)
	require.Contains(t, said[0].Problem, "Redis does not have it any more")
	require.Equal(t, publish.VerdictPublished, said[1].Verdict)
	require.Equal(t, []string{"r1 watermark final"}, w.history("hourly", base))
}

// holes is a Kafka that has lost the results in some ranges of offsets.
type holes struct {
	*publishtest.Kafka
	from []ledger.Span
}

func (k *holes) ReadCommitted(ctx context.Context, tp source.TopicPartition, from int64, fn func(source.Record) error) (int64, error) {
	return k.Kafka.ReadCommitted(ctx, tp, from, func(r source.Record) error {
		lost := func(s ledger.Span) bool {
			return s.Partition == tp.Partition && r.Offset >= s.First && r.Offset <= s.Last
		}
		if tp.Topic == "orders.windows" && slices.ContainsFunc(k.from, lost) {
			return nil
		}
		return fn(r)
	})
}

// Content that is not the one approved fails its window: a difference that was damaged publishes nothing.
func TestADamagedDifferencePublishesNothing(t *testing.T) {
	w, d := replayed(t)
	d.content[d.counted[0].Row.ID()][`{"k":"key-1"}`] = `{"n":7}`
	var said []result.Carried
	c := w.closer(d.use)
	require.NoError(t, c.CarryOut(w.ctx, job(result.JobCorrections), atOnce, func(done result.Carried) { said = append(said, done) }))
	require.Contains(t, said[0].Problem, "the content is not the one that was approved")
	require.Equal(t, publish.VerdictPublished, said[1].Verdict)
	w.sound()
}

func TestJobsThatAreRefused(t *testing.T) {
	w, d := replayed(t)
	c := w.closer(d.use)
	for want, body := range map[string]string{
		"it does not say which replay":            `{}`,
		"does not say which replay; want":         `[]`,
		`lateness is "1h"; want as-read`:          `{"replay":"x","checksum":"d","lateness":"1h"}`,
		"has checksum d by now, the job is about": `{"replay":"x","checksum":"e","lateness":"none"}`,
		"what the replay has found is gone":       `{"replay":"y","checksum":"d","lateness":"none"}`,
	} {
		for _, kind := range []string{result.JobCorrections, result.JobCertify} {
			j := job(kind)
			j.Body = json.RawMessage(body)
			_, err := w.carry(c, j, atOnce)
			var refused *result.RefusedJobError
			require.ErrorAs(t, err, &refused)
			require.ErrorContains(t, err, want)
		}
	}
	_, err := w.carry(c, job("paint"), atOnce)
	require.ErrorContains(t, err, `its kind is "paint", this version of millrace carries out certify, corrections`)
	require.Equal(t, []string{"r1 watermark final"}, w.history("hourly", base))
}

// While a job is carried out another process takes its slots over, again and again, and closes.
func TestJobsAndRoundsFenceEachOther(t *testing.T) {
	w, d := replayed(t)
	other := w.closer(d.use)
	c := w.closer(d.use)
	busy, fenced := false, 0
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if busy || fenced == 4 || s.Name != "send" && s.Name != "commit" {
			return publishtest.Pass
		}
		busy = true
		defer func() { busy = false }()
		fenced++
		_, err := other.Round(w.ctx)
		require.NoError(t, err)
		thief, err := w.kafka.Open(w.ctx, s.Slot)
		require.NoError(t, err)
		require.NoError(t, thief.Close())
		return publishtest.Pass
	})
	said, err := w.carry(c, job(result.JobCorrections), atOnce)
	require.NoError(t, err)
	require.Equal(t, 4, fenced)
	require.Equal(t, []string{"0 published r2", "1 published r2"}, said)
	w.kafka.Plan(nil)
	w.settle(other)
	require.Equal(t, []string{"r1 watermark final", "r2 replay final"}, w.history("hourly", base))
	require.Equal(t, []string{"r1 watermark final", "r2 replay final"}, w.history("hourly", base+hour))
	require.Equal(t, d.corrected(), w.values())
	w.sound()
}

// A closer dies at each of its requests, and another one carries the job on.
func TestAJobIsCarriedOnAfterItsCloserDied(t *testing.T) {
	reference, d := replayed(t)
	steps := 0
	count(reference, &steps)
	_, err := reference.carry(reference.closer(d.use), job(result.JobCorrections), atOnce)
	require.NoError(t, err)
	want := d.corrected()
	require.Greater(t, steps, 20)
	for at := range steps {
		for _, outcome := range []publishtest.Outcome{publishtest.FailBefore, publishtest.FailAfter} {
			t.Run(fmt.Sprintf("step %d %d", at, outcome), func(t *testing.T) {
				w, d := replayed(t)
				dieAt(w, at, outcome)
				_, _ = w.carry(w.closer(d.use), job(result.JobCorrections), atOnce)
				w.kafka.Plan(nil)
				w.faults.Plan(nil)
				said, err := w.carry(w.closer(d.use), job(result.JobCorrections), atOnce)
				require.NoError(t, err)
				require.Len(t, said, 2)
				require.Equal(t, want, w.values())
				require.Equal(t, []string{"r1 watermark final", "r2 replay final"}, w.history("hourly", base))
				require.Equal(t, []string{"r1 watermark final", "r2 replay final"}, w.history("hourly", base+hour))
				w.settle(w.closer())
				w.sound()
			})
		}
	}
}

func TestCertificatesAreCarriedOut(t *testing.T) {
	w, d := replayed(t)
	c := w.closer(d.use)
	said, err := w.carry(c, job(result.JobCertify), atOnce)
	require.NoError(t, err)
	require.Equal(t, []string{"2 published r1"}, said)
	said, err = w.carry(w.closer(d.use), job(result.JobCertify), atOnce)
	require.NoError(t, err)
	require.Equal(t, []string{"2 done r1"}, said)
	v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka, Now: atBase})
	require.NoError(t, err)
	require.Empty(t, v.Problems)
	require.Equal(t, 1, v.Certified)
	var found []ledger.Certificate
	require.NoError(t, ledger.Read(w.ctx, w.kafka, "orders", func(rec ledger.Record) error {
		if rec.Certificate != nil {
			found = append(found, *rec.Certificate)
		}
		return nil
	}))
	row := d.counted[2].Row
	require.Equal(t, []ledger.Certificate{{
		Pipeline: "orders", Window: "hourly", Start: base + 2*hour, Edition: 1, Revision: 1, Replay: "x", By: "test",
		CertifiedAt: base, Keys: row.Keys, Events: row.Events, Checksum: row.Checksum, Scope: ledger.ScopeWhole, Lanes: d.counted[2].Read,
	}}, found)
}

// Kafka away is no window's fault: the job is tried again as a whole.
func TestAJobEndsWithTheTrouble(t *testing.T) {
	w, d := replayed(t)
	w.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
		if s.Name == "open" {
			return publishtest.FailBefore
		}
		return publishtest.Pass
	})
	said, err := w.carry(w.closer(d.use), job(result.JobCorrections), atOnce)
	require.ErrorIs(t, err, publishtest.ErrInjected)
	require.Empty(t, said)
	w.kafka.Plan(nil)
	w.faults.Plan(func(op storetest.Op) storetest.Outcome {
		if strings.HasPrefix(op.Tag, "orders/hourly/") {
			return storetest.FailBefore
		}
		return storetest.Pass
	})
	said, err = w.carry(w.closer(d.use), job(result.JobCorrections), atOnce)
	require.Error(t, err)
	require.Empty(t, said)
	w.faults.Plan(nil)
	require.Equal(t, []string{"r1 watermark final"}, w.history("hourly", base))
}

func TestVerifyFindsWrongCorrections(t *testing.T) {
	add := func(w *world, row ledger.Row) {
		id := row.ID()
		tp := source.TopicPartition{Topic: "orders.ledger", Partition: int32(id.Slot(ledger.DefaultSlots))}
		w.kafka.Append(tp, source.Record{Key: id.Key(), Value: []byte(mustJSON(w.t, row))})
	}
	for want, spoil := range map[string]func(w *world, row ledger.Row){
		"ledger: revision 3 follows the final one": func(w *world, row ledger.Row) {
			row.Revision, row.Checksum, row.Reason, row.Replay = 3, "other", ledger.ReasonLate, nil
			add(w, row)
		},
		"ledger: revision 3 was made for revision 1 with checksum": func(w *world, row ledger.Row) {
			row.Revision, row.Checksum = 3, "other"
			add(w, row)
		},
		"ledger: revision 3 of reason replay is not final": func(w *world, row ledger.Row) {
			row.Revision, row.Checksum, row.Final = 3, "other", false
			add(w, row)
		},
		"ledger: revisions 2 and 3 have the same content": func(w *world, row ledger.Row) {
			row.Revision = 3
			add(w, row)
		},
		"results: revision 2 has 4 keys and states of 1 of them": func(w *world, row ledger.Row) {
			w.kafka.AddTopic("orders.states", 1)
			prefix := ledger.NewResultPrefix("orders", row.Window, row.Start, row.End, 1)
			state := prefix.AppendState(nil, 2, ledger.Content{Key: []byte(`{}`), State: []byte("s")})
			w.kafka.Append(source.TopicPartition{Topic: "orders.states"}, source.Record{Value: state})
			row.States = []ledger.Link{{Revision: 2, Whole: true, Partitions: []ledger.Span{{Last: 0}}}}
			add(w, row)
		},
		"ledger: a certificate is about revision 9, the latest is 2": func(w *world, row ledger.Row) {
			certify(w, row, func(c *ledger.Certificate) { c.Revision = 9 })
		},
		"ledger: revision 2 has 4 keys, 9 events and checksum": func(w *world, row ledger.Row) {
			certify(w, row, func(c *ledger.Certificate) { c.Events = 5 })
		},
	} {
		t.Run(want, func(t *testing.T) {
			w, d := replayed(t)
			_, err := w.carry(w.closer(d.use), job(result.JobCorrections), atOnce)
			require.NoError(t, err)
			w.sound()
			spoil(w, w.ledger()[0])
			v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka, Now: atBase})
			require.NoError(t, err)
			var text bytes.Buffer
			for _, p := range v.Problems {
				fmt.Fprintf(&text, "%s: %s\n", p.Kind, p.Detail)
			}
			require.Contains(t, text.String(), want)
		})
	}
}

func certify(w *world, row ledger.Row, change func(*ledger.Certificate)) {
	c := ledger.Certificate{
		Pipeline: "orders", Window: row.Window, Start: row.Start, Edition: 1, Revision: row.Revision, Keys: row.Keys, Events: row.Events,
		Checksum: row.Checksum,
	}
	change(&c)
	id := row.ID()
	tp := source.TopicPartition{Topic: "orders.ledger", Partition: int32(id.Slot(ledger.DefaultSlots))}
	w.kafka.Append(tp, source.Record{Key: id.CertificateKey(), Value: []byte(mustJSON(w.t, c))})
}
