package shadow_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/audit"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
)

// TestAuditNamesWhatIsWrong: each place is falsified by itself, and it alone is named, with the key. What is gone or was
// superseded is not wrong.
func TestAuditNamesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		falsify func(w *world, row *ledger.Row, content []ledger.Content)
		want    func(content []ledger.Content) []diff.Wrong // without details
		detail  string
	}{
		"nothing": {falsify: func(*world, *ledger.Row, []ledger.Content) {}},
		"checksum of the row": {
			func(w *world, row *ledger.Row, _ []ledger.Content) {
				w.forgeRow(row, "checksum", strings.Repeat("0", 32))
			},
			func([]ledger.Content) []diff.Wrong { return []diff.Wrong{{Place: report.PlaceLedger}} }, "checksum 0000",
		},
		"events of the row": {
			func(w *world, row *ledger.Row, _ []ledger.Content) { w.forgeRow(row, "events", row.Events+1) },
			func([]ledger.Content) []diff.Wrong { return []diff.Wrong{{Place: report.PlaceLedger}} }, "events",
		},
		"a value in the view": {
			func(w *world, row *ledger.Row, content []ledger.Content) { w.forgePage(row, content[0].Values) },
			func(content []ledger.Content) []diff.Wrong {
				return []diff.Wrong{{Place: report.PlaceView, Other: 1, Keys: []json.RawMessage{content[0].Key}}}
			}, "1 with other values",
		},
		"the view is gone": {
			falsify: func(w *world, row *ledger.Row, _ []ledger.Content) {
				require.NoError(w.t, w.redis.Del(w.ctx, w.page(row)).Err())
			},
		},
		"a row in the result topic": {
			func(w *world, row *ledger.Row, content []ledger.Content) {
				w.forgeResult(row, row.Revision, content[0])
			},
			func(content []ledger.Content) []diff.Wrong {
				return []diff.Wrong{{Place: report.PlaceResults, Extra: 1, Keys: []json.RawMessage{content[0].Key}}}
			}, "records outside of the transaction that published it: 1",
		},
		"a row of a later revision": {
			func(w *world, row *ledger.Row, content []ledger.Content) {
				w.forgeResult(row, row.Revision+1, content[0])
			},
			func(content []ledger.Content) []diff.Wrong {
				return []diff.Wrong{{Place: report.PlaceResults, Extra: 1, Keys: []json.RawMessage{content[0].Key}}}
			}, "outside of the transaction",
		},
		"a row that readers take for superseded": {
			falsify: func(w *world, row *ledger.Row, content []ledger.Content) {
				w.forgeResult(row, row.Revision-1, content[0])
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			text := summing("v", hourly)
			w := newWorld(t, 1, text, 2)
			w.live(300)
			rows, err := ledger.Latest(w.ctx, w.kafka, "orders")
			require.NoError(t, err)
			row := &rows[1]
			require.True(t, row.Final)
			content, err := w.contents().Read(w.ctx, row)
			require.NoError(t, err)
			c.falsify(w, row, content)

			p := w.begin(w.ask(plan.AsRead, text))
			cfg := w.runConfig()
			cfg.Audit = audit.New(audit.Config{
				Spec: w.spec, Kafka: w.kafka, View: w.store, Now: func() time.Time { return time.UnixMilli(w.clock) },
			})
			res, err := shadow.Run(w.ctx, cfg)
			require.NoError(t, err)
			m, err := shadow.NewReader(w.store, "orders", "r1").Manifest(w.ctx)
			require.NoError(t, err)
			var want []diff.Wrong
			if c.want != nil {
				want = c.want(content)
			}
			found := false
			for _, h := range m.Headers {
				require.Empty(t, h.Problem)
				if h.ID() != row.ID() {
					require.True(t, h.Agrees(), "%s: %+v", h.ID(), h.Wrong)
					continue
				}
				found = true
				require.Equal(t, want == nil, h.Agrees())
				for i := range h.Wrong {
					require.Contains(t, h.Wrong[i].Detail, c.detail)
					h.Wrong[i].Detail = ""
				}
				require.Equal(t, want, h.Wrong)
			}
			require.True(t, found)
			require.Equal(t, len(want), res.Differ)
			require.Equal(t, len(p.Windows), res.Equal+res.Differ)
		})
	}
}

// forgeRow writes a row of the ledger once more, with another value of a field.
func (w *world) forgeRow(row *ledger.Row, field string, value any) {
	w.t.Helper()
	for slot := range int32(ledger.DefaultSlots) {
		tp := source.TopicPartition{Topic: ledger.Topic("orders"), Partition: slot}
		var last *source.Record
		_, err := w.kafka.ReadCommitted(w.ctx, tp, 0, func(r source.Record) error {
			rec, err := ledger.ParseRecord(tp, r)
			if err == nil && rec.Row != nil && rec.Row.ID() == row.ID() {
				r.Key, r.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
				last = &r
			}
			return err
		})
		require.NoError(w.t, err)
		if last == nil {
			continue
		}
		var all map[string]any
		require.NoError(w.t, json.Unmarshal(last.Value, &all))
		require.Contains(w.t, all, field)
		all[field] = value
		last.Value, err = json.Marshal(all)
		require.NoError(w.t, err)
		w.kafka.Append(tp, *last)
		return
	}
	require.Fail(w.t, "no such row")
}

// page is where Redis has the pages of a row's content.
func (w *world) page(row *ledger.Row) string {
	return fmt.Sprintf("mr:{orders/%s/%d}:v:%d", row.Window, row.Start, row.View.Whole)
}

// forgePage changes a digit of some values in Redis.
func (w *world) forgePage(row *ledger.Row, values []byte) {
	w.t.Helper()
	pages, err := w.redis.HGetAll(w.ctx, w.page(row)).Result()
	require.NoError(w.t, err)
	for field, text := range pages {
		page := []byte(text)
		if at := bytes.Index(page, values); at > 0 {
			page[at+bytes.IndexAny(values, "123456789")] ^= 1
			require.NoError(w.t, w.redis.HSet(w.ctx, w.page(row), field, page).Err())
			return
		}
	}
	require.Fail(w.t, "no such page")
}

// forgeResult appends a row to the result topic, of a key that is there with other values.
func (w *world) forgeResult(row *ledger.Row, revision int, content ledger.Content) {
	w.t.Helper()
	value, err := ledger.ResultRow{
		Pipeline: "orders", Window: row.Window, Start: row.Start, End: row.End, Edition: row.Edition, Key: content.Key, Revision: revision,
		Values: bytes.Replace(content.Values, []byte(`"n":`), []byte(`"n":1`), 1),
	}.MarshalJSON()
	require.NoError(w.t, err)
	w.kafka.Append(source.TopicPartition{Topic: "orders.windows", Partition: 1}, source.Record{Key: content.Key, Value: value})
}
