package plan

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// rowOf is a final row of one lane with its anchor.
func rowOf(start, end int64, c ledger.Cover) *ledger.Row {
	c.Topic, c.TopicID, c.Recountable = "orders", "id", true
	return &ledger.Row{
		Version: 2, Window: "w", Start: start, End: end, Edition: 1, Revision: 1, Final: true, Exact: true, Lanes: []ledger.Cover{c},
	}
}

func historyWith(meta *store.Meta, rows ...*ledger.Row) *laneHistory {
	b := &Book{Edition: 1, Rows: map[ledger.WindowID]*ledger.Row{}}
	for _, r := range rows {
		b.Rows[r.ID()] = r
	}
	return newHistory(b, &Facts{Topic: "orders", TopicID: "id", LogEnd: 1000, Meta: meta}, 0, 0, false)
}

func basisOf(watermark, sealed int64) store.Basis {
	return store.Basis{Known: true, Watermark: watermark, Sealed: sealed}
}

func TestGapsAreClosedByWhatCannotHaveMattered(t *testing.T) {
	first := ledger.Cover{Offset: 100, FirstOffset: 10, Folded: 1, Basis: basisOf(0, window.NoTime)}
	for name, test := range map[string]struct {
		next store.Basis // of a row from offset 150 on
		ok   bool
	}{
		"nothing was adopted":             {basisOf(900, window.NoTime), true},
		"no more than had been passed":    {basisOf(900, 500), true}, // the first row is final: 500 had been passed at 100
		"more than is known to be":        {basisOf(900, 501), false},
		"more, whatever the watermark is": {basisOf(9000, 800), false},
	} {
		t.Run(name, func(t *testing.T) {
			h := historyWith(nil, rowOf(400, 500, first), rowOf(800, 900, ledger.Cover{Offset: 200, FirstOffset: 150, Folded: 1, Basis: test.next}))
			gap, ok := h.covers(11, 200)
			require.Equal(t, test.ok, ok)
			if !ok {
				require.Equal(t, stretch{100, 150}, gap)
			}
			_, ok = h.covers(151, 200)
			require.True(t, ok)
			_, ok = h.covers(151, 201)
			require.False(t, ok, "nothing says what was adopted behind the last row")
		})
	}
}

func TestForgottenSealsAreGaps(t *testing.T) {
	meta := &store.Meta{
		Offset: 500, TopicID: "id", Sealed: 900, Seals: []store.Seal{{Offset: 50, Before: window.NoTime}, {Offset: 80, Before: 900}},
	}
	h := historyWith(meta)
	_, ok := h.covers(51, 500)
	require.True(t, ok)
	gap, ok := h.covers(50, 500)
	require.False(t, ok, "the seal at the mark is forgotten too")
	require.Equal(t, stretch{50, 51}, gap)

	fresh := &store.Meta{Offset: 500, TopicID: "id", Sealed: 900, Seals: []store.Seal{{Offset: 0, Before: 900}}}
	h = historyWith(fresh)
	a, ok := h.anchorAtOrBelow(0, 10)
	require.True(t, ok)
	require.Zero(t, a.unknownFrom(), "where a lane begins it has adopted nothing yet")
	require.Equal(t, []store.Seal{{Offset: 0, Before: 900}}, h.sealsFor(0, 500, a.basis, nil))
	h = historyWith(nil, rowOf(0, 5, ledger.Cover{Offset: 20, FirstOffset: 7, Folded: 1, Basis: basisOf(0, 900)}))
	a, ok = h.anchorAtOrBelow(0, 10)
	require.True(t, ok)
	require.Equal(t, int64(8), a.unknownFrom(), "the basis of a row has what was adopted there")
}

func TestPastsOfALaneAreKeptApart(t *testing.T) {
	h := historyWith(&store.Meta{Offset: 90, Era: 7, TopicID: "id", Sealed: window.NoTime},
		rowOf(0, 5, ledger.Cover{Offset: 20, FirstOffset: 7, Folded: 1, Basis: basisOf(0, window.NoTime)}),
		rowOf(5, 10, ledger.Cover{Offset: 40, FirstOffset: 15, Folded: 1, Era: 7, Basis: basisOf(4, window.NoTime)}),
	)
	require.Len(t, h.anchors, 1)
	require.Equal(t, int64(7), h.anchors[0].offset)
	require.Equal(t, []store.Seal{{Offset: 20, Before: 5}}, h.seals)
	require.Nil(t, h.meta)
	require.Len(t, h.stretches, 1)
}

// TestAcceptedJumpsAreControlValues: where a spec bounds jumps, a gap is closed only by who knows that none was accepted there.
func TestAcceptedJumpsAreControlValues(t *testing.T) {
	rows := []*ledger.Row{
		rowOf(400, 500, ledger.Cover{Offset: 100, FirstOffset: 10, Folded: 1, Basis: basisOf(0, window.NoTime)}),
		rowOf(800, 900, ledger.Cover{Offset: 200, FirstOffset: 150, Folded: 1, Basis: basisOf(900, window.NoTime)}),
	}
	for name, test := range map[string]struct {
		meta *store.Meta
		ok   bool
	}{
		"nobody knows":  {nil, false},
		"none":          {&store.Meta{Offset: 300, TopicID: "id", Sealed: window.NoTime}, true},
		"one":           {&store.Meta{Offset: 300, TopicID: "id", Sealed: window.NoTime, Accepted: []int64{120}}, false},
		"one elsewhere": {&store.Meta{Offset: 300, TopicID: "id", Sealed: window.NoTime, Accepted: []int64{220}}, true},
		"it has forgotten": {&store.Meta{
			Offset: 300, TopicID: "id", Sealed: window.NoTime, Seals: []store.Seal{{Offset: 130, Before: window.NoTime}},
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			h := historyWith(test.meta, rows...)
			h.jumps = true
			require.Equal(t, test.ok, h.closes(100, 150))
			h.jumps = false
			require.True(t, h.closes(100, 150))
		})
	}
}

// TestWindowsTakeNothingBehindTheirOwnOffset: also under a spec that would wait longer.
func TestWindowsTakeNothingBehindTheirOwnOffset(t *testing.T) {
	s, b, facts := book(t, 10)
	patient := *s
	patient.AllowedLateness = spec.Duration(3 * time.Hour)
	sel, err := Select(Ask{Pipeline: "orders", ID: "r", From: 4 * hour, To: 6 * hour, Lateness: AsRead, Live: s, Spec: &patient}, b)
	require.NoError(t, err)
	p, err := sel.Build(facts, stamped(facts))
	require.NoError(t, err)
	require.Contains(t, p.Lanes[0].Seals, store.Seal{Offset: 52, Before: 5*hour + 3*hour})
	for i := range p.Windows {
		w := &p.Windows[i]
		require.Equal(t, w.End+3*hour, w.Deadline)
		require.Equal(t, b.Rows[w.ID()].Lanes[0].Offset, w.Ends[0])
	}
}
