package shadow_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/audit"
	"millrace/pipeline/shadow/found"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/verify"
)

// TestApprovalMendsWhatIsWrong: whichever place is falsified, the approval of what the recount has found publishes the window
// again as a whole, and says what that mends. The next recount finds everything equal, and verify has nothing to say.
func TestApprovalMendsWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		falsify  func(w *world, row *ledger.Row, content []ledger.Content)
		mends    string
		revision int // above the row's
	}{
		"checksum of the row": {
			func(w *world, row *ledger.Row, _ []ledger.Content) {
				w.forgeRow(row, "checksum", strings.Repeat("0", 32))
			},
			"ledger", 1,
		},
		"keys of the row": {
			func(w *world, row *ledger.Row, _ []ledger.Content) { w.forgeRow(row, "keys", row.Keys+1) }, "ledger", 1,
		},
		"events of the row": {
			func(w *world, row *ledger.Row, _ []ledger.Content) { w.forgeRow(row, "events", row.Events+1) }, "ledger", 1,
		},
		"a value in the view": {
			func(w *world, row *ledger.Row, content []ledger.Content) { w.forgePage(row, content[0].Values) }, "view", 1,
		},
		"a row in the result topic": {
			func(w *world, row *ledger.Row, content []ledger.Content) {
				w.forgeResult(row, row.Revision, content[0])
			},
			"results", 1,
		},
		"a row of a later revision": {
			func(w *world, row *ledger.Row, content []ledger.Content) {
				w.forgeResult(row, row.Revision+2, content[0])
			},
			"results", 3,
		},
		"a key in the result topic that never was": {
			func(w *world, row *ledger.Row, content []ledger.Content) {
				forged := content[0]
				forged.Key = []byte(`{"k":"nobody"}`)
				w.forgeResult(row, row.Revision, forged)
			}, "results", 1,
		},
		"all of them": {
			func(w *world, row *ledger.Row, content []ledger.Content) {
				w.forgeRow(row, "checksum", strings.Repeat("0", 32))
				w.forgePage(row, content[0].Values)
				w.forgeResult(row, row.Revision, content[1])
			}, "ledger, view, results", 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := summing("v", hourly)
			w := newWorld(t, 1, text, 2)
			w.live(300)
			rows, err := ledger.Latest(w.ctx, w.kafka, "orders")
			require.NoError(t, err)
			row := &rows[1]
			content, err := w.contents().Read(w.ctx, row)
			require.NoError(t, err)
			c.falsify(w, row, content)

			before := w.verify()
			first := w.recount("r1")
			require.Equal(t, 1, first.Differ)
			require.Equal(t, []string{fmt.Sprintf("published r%d", row.Revision+c.revision)}, w.carryOut("r1", first.Checksum))
			require.Equal(t, []string{fmt.Sprintf("done r%d", row.Revision+c.revision)}, w.carryOut("r1", first.Checksum))

			second := w.recount("r2")
			require.Zero(t, second.Differ)
			require.Equal(t, first.Refused, second.Refused)
			require.Equal(t, second.Windows, second.Equal)
			latest := w.latest(row.ID())
			require.Equal(t, c.mends, latest.Mends)
			require.Equal(t, row.Revision, latest.Replay.BaseRevision)
			mended, err := w.contents().Read(w.ctx, latest)
			require.NoError(t, err)
			require.Equal(t, content, mended)
			require.Equal(t, w.shownTo(row.ID()), texts(content), "a reader of the result topic")
			after := w.verify()
			require.Empty(t, after.Problems)
			if slices.ContainsFunc(before.Problems, func(p verify.Problem) bool { return p.Kind != verify.ProblemView }) {
				require.Len(t, after.Notes, 1)
				require.Contains(t, after.Notes[0], c.mends)
			}
		})
	}
}

// TestApprovalOfAnotherBase: what was found is about the row as it was falsified. When the row is another one by then, nothing
// is published.
func TestApprovalOfAnotherBase(t *testing.T) {
	w := newWorld(t, 1, summing("v", hourly), 2)
	w.live(300)
	rows, err := ledger.Latest(w.ctx, w.kafka, "orders")
	require.NoError(t, err)
	w.forgeRow(&rows[1], "checksum", strings.Repeat("0", 32))
	res := w.recount("r1")
	w.forgeRow(&rows[1], "checksum", strings.Repeat("1", 32))
	require.Equal(t, []string{fmt.Sprintf("moved r%d", rows[1].Revision)}, w.carryOut("r1", res.Checksum))
}

func (w *world) verify() *verify.Report {
	w.t.Helper()
	v, err := verify.Run(w.ctx, verify.Config{
		Spec: w.spec, State: w.store, Kafka: w.kafka, Now: func() time.Time { return time.UnixMilli(w.clock) },
	})
	require.NoError(w.t, err)
	return v
}

// recount counts all windows again and compares every place.
func (w *world) recount(id string) shadow.Result {
	w.t.Helper()
	ask := w.ask(plan.AsRead, w.text)
	ask.ID, ask.Recount = id, true
	w.begin(ask)
	cfg := w.runConfig()
	cfg.ID = id
	cfg.Audit = audit.New(audit.Config{Spec: w.spec, Kafka: w.kafka, View: w.store, Now: func() time.Time { return time.UnixMilli(w.clock) }})
	res, err := shadow.Run(w.ctx, cfg)
	require.NoError(w.t, err)
	return res
}

// carryOut has the closer publish what a recount has found, and says what became of each window.
func (w *world) carryOut(id, checksum string) (said []string) {
	w.t.Helper()
	c, err := result.NewCloser(result.Config{
		Spec: w.spec, State: w.store, Kafka: w.kafka, By: "test", Parallel: 1, ReadAhead: 1,
		Now:  func() time.Time { return time.UnixMilli(w.clock) },
		Jobs: map[string]result.JobKind{result.JobCorrections: result.Corrections{From: found.Differences{Store: w.store}}},
	})
	require.NoError(w.t, err)
	defer c.Close()
	body, err := json.Marshal(map[string]string{"replay": id, "checksum": checksum, "lateness": ledger.LatenessAsRead})
	require.NoError(w.t, err)
	atOnce := func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	err = c.CarryOut(w.ctx, result.Job{ID: id, Kind: result.JobCorrections, Body: body}, atOnce, func(done result.Carried) {
		said = append(said, fmt.Sprintf("%s r%d", done.Verdict, done.Revision))
	})
	require.NoError(w.t, err)
	return said
}

func (w *world) latest(id ledger.WindowID) *ledger.Row {
	w.t.Helper()
	rows, err := ledger.Latest(w.ctx, w.kafka, "orders")
	require.NoError(w.t, err)
	for i := range rows {
		if rows[i].ID() == id {
			return &rows[i]
		}
	}
	require.Fail(w.t, "no such row")
	return nil
}

// shownTo is what somebody knows of a window who takes the last revision of every key from the result topic.
func (w *world) shownTo(id ledger.WindowID) map[string]string {
	w.t.Helper()
	latest := map[string]ledger.ResultRow{}
	for p := range int32(3) {
		tp := source.TopicPartition{Topic: "orders.windows", Partition: p}
		_, err := w.kafka.ReadCommitted(w.ctx, tp, 0, func(r source.Record) error {
			var row ledger.ResultRow
			if err := row.UnmarshalJSON(r.Value); err != nil {
				return err
			}
			if old, ok := latest[string(row.Key)]; row.Window == id.Window && row.Start == id.Start && (!ok || row.Supersedes(old)) {
				latest[string(row.Key)] = row
			}
			return nil
		})
		require.NoError(w.t, err)
	}
	out := map[string]string{}
	for key, row := range latest {
		if !row.Deleted {
			out[key] = string(row.Values)
		}
	}
	return out
}

func texts(content []ledger.Content) map[string]string {
	out := map[string]string{}
	for _, c := range content {
		out[string(c.Key)] = string(c.Values)
	}
	return out
}
