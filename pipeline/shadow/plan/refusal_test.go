package plan

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

const (
	hour    = int64(3_600_000)
	lanesOf = 2
)

// book is a pipeline of hourly windows: each lane has ten records in each hour, which is covered twelve records after it has
// begun.
func book(t *testing.T, hours int64) (*spec.Spec, *Book, []Facts) {
	t.Helper()
	s, err := spec.Parse("orders.yaml", []byte(`
name: orders
source: {topics: [orders], format: json}
event: {key: [k], time: {field: t, unit: ms}, max_future: 1h}
aggregates: {n: {func: count}}
windows: [{name: hourly, size: 1h}]
watermark: {out_of_orderness: 0s}
allowed_lateness: 5m
results: {kafka: {topic: orders.windows}}
late: {kafka: {topic: orders.late}}
`))
	require.NoError(t, err)
	b := &Book{
		Edition: 1, Slots: 8, Rows: map[ledger.WindowID]*ledger.Row{}, Tombstones: map[ledger.WindowID]bool{},
		Floors: map[FloorID]*ledger.Floor{},
	}
	for h := range hours {
		row := &ledger.Row{
			Version: 2, Pipeline: "orders", Window: "hourly", Start: h * hour, End: (h + 1) * hour, Edition: 1, Spec: s.Version(),
			Revision: 1, Final: true, Exact: true, Keys: 100, Events: 10 * lanesOf, Checksum: "c", Reason: ledger.ReasonWatermark,
		}
		for p := range int32(lanesOf) {
			row.Lanes = append(row.Lanes, ledger.Cover{
				Topic: "orders", Partition: p, TopicID: "id", Offset: 10*h + 12, FirstOffset: 10 * h, LastOffset: 10*h + 9, Folded: 10,
				Recountable: true,
				Basis:       store.Basis{Known: true, Watermark: h*hour - 1, Sealed: window.NoTime},
			})
		}
		b.Rows[row.ID()] = row
	}
	var facts []Facts
	for p := range int32(lanesOf) {
		facts = append(facts, Facts{
			Topic: "orders", Partition: p, TopicID: "id", LogEnd: 10*hours + 12, FirstTime: window.NoTime, Sampled: 10, SampleBytes: 500,
		})
	}
	return s, b, facts
}

// stamped answers as a log does whose records are stamped with their event times, ten an hour.
func stamped(facts []Facts) OffsetsOf {
	return func(at int64) ([]int64, error) {
		out := make([]int64, len(facts))
		for i := range facts {
			out[i] = min(facts[i].LogEnd, max(facts[i].LogStart, (at*10+hour-1)/hour))
		}
		return out, nil
	}
}

func TestRefusals(t *testing.T) {
	row := func(b *Book, h int64) *ledger.Row { return b.Rows[ledger.WindowID{Window: "hourly", Start: h * hour}] }
	for name, test := range map[string]struct {
		change func(a *Ask, b *Book, f []Facts)
		reason string
		hours  []int64 // refused of 4 to 8
	}{
		"not final":        {func(_ *Ask, b *Book, _ []Facts) { row(b, 6).Final = false }, ReasonNotFinal, []int64{6}},
		"not exact":        {func(_ *Ask, b *Book, _ []Facts) { row(b, 6).Exact = false }, ReasonNotExact, []int64{6}},
		"no row, no floor": {func(_ *Ask, b *Book, _ []Facts) { delete(b.Rows, row(b, 7).ID()) }, ReasonNotFinal, []int64{7}},
		"tombstoned": {func(_ *Ask, b *Book, _ []Facts) {
			b.Tombstones[row(b, 4).ID()] = true
			delete(b.Rows, row(b, 4).ID())
		}, ReasonTombstoned, []int64{4}},
		"old row": {func(_ *Ask, b *Book, _ []Facts) { row(b, 5).Version = 1 }, ReasonVersion, []int64{5}},
		"of an edition before": {func(_ *Ask, b *Book, _ []Facts) {
			b.Edition = 2
			for h := range int64(10) {
				row(b, h).Edition = 2
			}
			row(b, 5).Edition = 1
		}, ReasonNotFinal, []int64{5}},
		"corrected in another way, recounted": {func(a *Ask, b *Book, _ []Facts) {
			a.Recount = true
			row(b, 5).Replay = &ledger.ReplayOrigin{ID: "a", Lateness: ledger.LatenessNone}
			row(b, 6).Replay, row(b, 6).Spec = &ledger.ReplayOrigin{ID: "b", Lateness: ledger.LatenessAsRead}, "another"
			row(b, 7).Replay = &ledger.ReplayOrigin{ID: "c", Lateness: ledger.LatenessAsRead}
		}, ReasonCorrected, []int64{5, 6}},
		"topic made again": {func(_ *Ask, b *Book, f []Facts) {
			f[1].TopicID = "other"
			for h := int64(7); h < 10; h++ {
				row(b, h).Lanes[1].TopicID = "other"
			}
		}, ReasonOtherTopic, []int64{4, 5, 6}},
		"era in between": {func(_ *Ask, b *Book, _ []Facts) {
			for h := int64(6); h < 10; h++ {
				row(b, h).Lanes[0].Era = 77
			}
		}, ReasonEra, []int64{4, 5}},
		"log trimmed": {func(_ *Ask, _ *Book, f []Facts) {
			f[0].LogStart, f[0].FirstTime = 45, 45*hour/10
		}, ReasonTrimmed, []int64{4}},
		"log trimmed, everything counts": {func(a *Ask, _ *Book, f []Facts) {
			a.Lateness = None
			f[0].LogStart, f[0].FirstTime = 45, 45*hour/10
		}, ReasonTrimmed, []int64{4, 5}},
		"log cut": {func(_ *Ask, _ *Book, f []Facts) { f[0].LogEnd = 81 }, ReasonTruncated, []int64{7, 8}},
		"seals not known": {func(a *Ask, b *Book, _ []Facts) {
			row(b, 5).Lanes[1].Recountable = false
			for h := int64(6); h < 10; h++ {
				row(b, h).Lanes[1].Basis.Sealed = 6 * hour // more than anything that was passed in time
			}
		}, ReasonControl, []int64{4, 5}},
	} {
		t.Run(name, func(t *testing.T) {
			s, b, facts := book(t, 10)
			ask := Ask{Pipeline: "orders", ID: "r", From: 4 * hour, To: 9 * hour, Lateness: AsRead, Live: s, Spec: s, Now: time.UnixMilli(20 * hour)}
			test.change(&ask, b, facts)
			sel, err := Select(ask, b)
			require.NoError(t, err)
			p, err := sel.Build(facts, stamped(facts))
			require.NoError(t, err)
			var hours []int64
			for _, r := range p.Refused {
				require.Equal(t, test.reason, r.Reason, r.Detail)
				hours = append(hours, r.Start/hour)
				if r.Reason == ReasonTrimmed {
					require.Equal(t, 6*hour, r.Earliest)
					require.Contains(t, r.String(), "1970-01-01T06:00:00Z or later")
				}
			}
			require.Equal(t, test.hours, hours)
			require.Len(t, p.Windows, 5-len(hours))
			ask.From, ask.To = test.hours[0]*hour, (test.hours[len(test.hours)-1]+1)*hour
			if name == "era in between" { // alone, they are of one past
				return
			}
			sel, err = Select(ask, b)
			if err == nil {
				_, err = sel.Build(facts, stamped(facts))
			}
			if name == "seals not known" && err == nil {
				return
			}
			var refused *RefusedError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, test.reason, refused.Reason())
		})
	}
}

func TestRequestsThatCannotBe(t *testing.T) {
	s, b, _ := book(t, 3)
	other := *s
	other.Source.Topics = []string{"trades"}
	silent := *s
	silent.Late = spec.Sink{}
	for reason, ask := range map[string]Ask{
		ReasonRange:       {From: 10, To: hour, Live: s, Spec: s, Lateness: AsRead},
		ReasonOtherTopics: {To: hour, Live: s, Spec: &other, Lateness: AsRead},
		ReasonNoLate:      {To: hour, Live: &silent, Spec: &silent, Lateness: FromLate},
	} {
		_, err := Select(ask, b)
		var refused *RefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, reason, refused.Reason())
	}
	_, err := Select(Ask{To: hour, Live: s, Spec: s, Lateness: AsRead, Families: []string{"daily"}}, b)
	require.ErrorContains(t, err, `the spec has no window "daily"; it has hourly`)
	rolled := *s
	rolled.Rollups = []spec.Rollup{{Name: "daily", From: "hourly"}, {Name: "monthly", From: "daily"}}
	_, err = Select(Ask{Pipeline: "orders", To: hour, Live: &rolled, Spec: &rolled, Lateness: AsRead, Families: []string{"monthly"}}, b)
	require.ErrorContains(t, err, "monthly is a roll-up, made of the windows daily and not of what Kafka holds: replay hourly; "+
		"`millrace compact run orders` then rolls up again what was corrected")
	_, err = Select(Ask{To: hour * (MaxWindows + 1), Live: s, Spec: s, Lateness: AsRead}, b)
	require.ErrorContains(t, err, fmt.Sprintf("one replay counts %d", MaxWindows))
	_, err = Select(Ask{To: hour, Live: s, Spec: s, Lateness: "later"}, b)
	require.ErrorContains(t, err, `lateness "later" is unknown`)
}

// TestScopeFollowsTheCost: reading from the first offset that a window may have an event at is given up where it would cost
// more than ten times as much as reading from the first event, unless it was asked for.
func TestScopeFollowsTheCost(t *testing.T) {
	s, b, facts := book(t, 200)
	ask := Ask{Pipeline: "orders", ID: "r", From: 190 * hour, To: 191 * hour, Lateness: AsRead, Live: s, Spec: s}
	lay := func(future spec.Duration, scope Scope) *Plan {
		t.Helper()
		counts := *s
		counts.Event.MaxFuture = future
		ask.Live, ask.Spec, ask.Scope = &counts, &counts, scope
		sel, err := Select(ask, b)
		require.NoError(t, err)
		p, err := sel.Build(facts, stamped(facts))
		require.NoError(t, err)
		return p
	}
	near, far := spec.Duration(time.Hour), spec.Duration(100*time.Hour)
	p := lay(near, "")
	require.Equal(t, Whole, p.Scope)
	require.Equal(t, int64(1890), p.Lanes[0].Start)
	require.Equal(t, int64(1912), p.Lanes[0].End)
	require.Equal(t, int64(1912), p.Windows[0].Ends[1])
	require.Equal(t, int64(44), p.Figures.Records)
	require.Equal(t, int64(44*50), p.Figures.Bytes)
	require.Positive(t, p.Figures.RedisBytes)
	require.Equal(t, FromFirstOffset, lay(far, "").Scope)
	require.Equal(t, int64(1900), lay(far, "").Lanes[0].Start)
	require.Equal(t, Whole, lay(far, Whole).Scope)
	require.Equal(t, int64(900), lay(far, Whole).Lanes[0].Start)
	require.Equal(t, FromFirstOffset, lay(near, FromFirstOffset).Scope)
	require.Equal(t, near, ask.Spec.Event.MaxFuture)
	require.Equal(t, hour*191+s.AllowedLateness.Millis(), p.Windows[0].Deadline)
	late := s.AllowedLateness.Millis()
	seals := []store.Seal{
		{Offset: 1890, Before: 188*hour + late}, {Offset: 1892, Before: 189*hour + late}, {Offset: 1902, Before: 190*hour + late},
	}
	require.Equal(t, seals, p.Lanes[0].Seals, "rows of other windows say what was passed as well")
}

// TestCorrectedRowsSayWhereTheLanesBegan: what a replay has published of a window, nothing of one lane and something of another
// that had no event of it, says nothing about where the lanes themselves have found events.
func TestCorrectedRowsSayWhereTheLanesBegan(t *testing.T) {
	s, b, facts := book(t, 10)
	row := b.Rows[ledger.WindowID{Window: "hourly", Start: 5 * hour}]
	row.Replay = &ledger.ReplayOrigin{ID: "a", Lateness: ledger.LatenessNone}
	row.Lanes[0].Folded, row.Lanes[0].LastOffset = 0, -1
	row.Lanes[1].FirstOffset, row.Lanes[1].Basis, row.Lanes[1].Recountable = -1, store.Basis{}, false
	lay := func(scope Scope) (*Plan, error) {
		sel, err := Select(Ask{
			Pipeline: "orders", ID: "r", From: 5 * hour, To: 6 * hour, Lateness: AsRead, Live: s, Spec: s, Scope: scope,
		}, b)
		require.NoError(t, err)
		return sel.Build(facts, stamped(facts))
	}
	p, err := lay(Whole)
	require.NoError(t, err)
	require.Equal(t, []int64{62, 62}, p.Windows[0].Covered)
	row.Lanes[1].Folded = 0
	p, err = lay(FromFirstOffset)
	require.NoError(t, err)
	require.Equal(t, int64(50), p.Lanes[0].Start)
	require.Equal(t, int64(62), p.Lanes[0].End)
	require.Zero(t, p.Lanes[1].Offsets())
	facts[0].LogStart, facts[0].FirstTime = 51, 51*hour/10
	_, err = lay("")
	var refused *RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, ReasonTrimmed, refused.Reason())
}
