package app

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/stage"
	"millrace/pipeline/window"
)

// fakeWindows plays what a test says, and counts.
type fakeWindows struct {
	windows
	report result.RoundReport
	single error // of windows closed one by one
	err    error
	rounds int
	given  bool // up
	open   *report.OpenTransaction
}

func (f *fakeWindows) Round(context.Context) (result.RoundReport, error) {
	f.rounds++
	return f.report, f.err
}

func (f *fakeWindows) Ref(string, int64) (window.Ref, error) { return window.Ref{}, nil }

func (f *fakeWindows) Exclude(window.Ref) {}

func (f *fakeWindows) Include(window.Ref) {}

func (f *fakeWindows) CloseWindow(context.Context, window.Ref, string) (ledger.Row, bool, error) {
	f.rounds++
	return ledger.Row{}, f.single == nil, f.single
}

func (f *fakeWindows) Flush(context.Context) (result.Receipt, error) {
	f.rounds++
	return result.Receipt{
		Emitted: report.Emitted{Published: len(f.report.Closed)}, Done: len(f.report.Failed) == 0, Failed: f.report.Failed,
	}, f.err
}

func (f *fakeWindows) OpenTransaction() *report.OpenTransaction { return f.open }

func (f *fakeWindows) Times() stage.Account { return stage.Account{} }
func (f *fakeWindows) Close() error {
	f.given = true
	return nil
}

// press is a pipeline's closer whose rounds the test plays, with its state machine in virtual time.
type press struct {
	*closer
	fakeWindows
	outlets  *outlets
	temporal *fakeStarts
	pings    atomic.Int64
	away     atomic.Pointer[error]
}

func pressing(t *testing.T, test func(t *testing.T, p *press)) {
	synctest.Test(t, func(t *testing.T) {
		p := &press{temporal: &fakeStarts{}}
		told := newDegrades(p.temporal, "worker-a", "p1", "d1", quiet)
		p.outlets = &outlets{
			log: quiet, made: make(map[string]*outlet), wanted: nothingWanted,
			ping: func(_ context.Context, topic string) error {
				p.pings.Add(1)
				require.Equal(t, ledger.Topic("orders"), topic)
				if err := p.away.Load(); err != nil {
					return *err
				}
				return nil
			},
			follow: func(ctx context.Context, pipeline string, l activities.Level) {
				told.Follow(ctx, pipeline, 0, report.DependencyResults, l)
			},
		}
		defer p.outlets.close()
		out, err := p.outlets.of("orders")
		require.NoError(t, err)
		again, err := p.outlets.of("orders")
		require.NoError(t, err)
		require.Same(t, out, again)
		p.closer = &closer{
			outlet: out, spec: &spec.Spec{Name: "orders"}, log: quiet, windows: &p.fakeWindows, upToDate: func() {},
		}
		test(t, p)
	})
}

// play plays rounds that come to the same, one a second, and returns the last.
func (p *press) play(t *testing.T, n int, told result.RoundReport) report.Round {
	t.Helper()
	p.report = told
	var round report.Round
	for range n {
		var err error
		round, err = p.closer.Round(t.Context(), nil)
		require.Equal(t, p.err, err)
		pass(time.Second)
	}
	return round
}

func kafkaTrouble(slots int) (r result.RoundReport) {
	for n := range slots {
		r.Kafka = append(r.Kafka, fmt.Sprintf("slot %d: no broker answers", n))
	}
	return r
}

func TestRoundsJudgeKafka(t *testing.T) {
	published := result.RoundReport{Round: report.Round{Closed: []report.ClosedWindow{{WindowRef: report.WindowRef{Window: "hourly"}, Revision: 1}}}}
	unpublished := result.RoundReport{Round: report.Round{Failed: []report.FailedWindow{{WindowRef: report.WindowRef{Window: "hourly"}, Problem: "publish revision 1: broken pipe", Kafka: true}}}}
	tests := []struct {
		name   string
		report result.RoundReport
		err    error
		rounds int
		good   int64
		bad    int64
		opens  bool
	}{
		{name: "nothing to do", rounds: 100},
		{name: "published", report: published, rounds: 100, good: 100},
		{name: "not published", report: unpublished, rounds: 5, bad: 5, opens: true},
		{name: "not often enough", report: unpublished, rounds: 4, bad: 4},
		{name: "slots not taken over", report: kafkaTrouble(8), rounds: 1, bad: 8, opens: true},
		{name: "one slot of many", report: result.RoundReport{Round: report.Round{Closed: make([]report.ClosedWindow, 7)},
			Kafka: []string{"slot 1: away"}},
			rounds: 10, good: 70, bad: 10},
		{name: "windows that fail by themselves", report: result.RoundReport{Round: report.Round{Failed: []report.FailedWindow{{Problem: "incident mismatch"}}}},
			rounds: 50},
		{name: "no look at the lanes", err: errors.New("redis is away"), rounds: 50},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pressing(t, func(t *testing.T, p *press) {
				p.err = tt.err
				p.play(t, tt.rounds, tt.report)
				s := p.outlet.Status()
				require.Equal(t, tt.good, s.Totals.Succeeded)
				require.Equal(t, tt.bad, s.Totals.Failed)
				require.Equal(t, tt.opens, !s.Direct)
				require.Equal(t, tt.rounds, p.rounds)
			})
		})
	}
}

// While the breaker is open nothing is published; it closes when Kafka answers again, and Temporal is told of it all.
func TestResultsWaitForKafka(t *testing.T) {
	pressing(t, func(t *testing.T, p *press) {
		away := errors.New("no broker answers")
		p.away.Store(&away)
		round := p.play(t, 1, kafkaTrouble(8))
		require.Contains(t, round.Waiting.For, "Kafka does not take results: slot 0")
		round = p.play(t, 30, kafkaTrouble(8))
		require.Equal(t, 1, p.rounds, "an open breaker lets nothing through")
		require.Contains(t, round.Waiting.For, "the result producer's breaker is open: ")
		require.Empty(t, round.Closed)

		e := &engines{outlets: p.outlets}
		l, ok := e.Level("orders", 0, report.DependencyResults)
		require.True(t, ok)
		require.Equal(t, report.LevelPaused, l.LevelStatus().Level, "there is no journal for results")
		require.Equal(t, p.outlet.Status().Pipeline, e.guards()[0].Pipeline)
		_, ok = e.Level("orders", 1, report.DependencyResults)
		require.False(t, ok)
		_, ok = e.Level("others", 0, report.DependencyResults)
		require.False(t, ok)
		_, ok = e.Level("orders", 0, report.DependencyRedis)
		require.False(t, ok, "no hot path runs here")
		told := p.temporal.all()
		require.Len(t, told, 1)
		require.Equal(t, "degrade:orders:worker-a:results", told[0].options.ID)
		require.Equal(t, 0, told[0].signal.Replica)
		require.Empty(t, told[0].signal.Disk, "results do not go into the journal")

		p.away.Store(nil)
		p.play(t, 15, result.RoundReport{})
		require.Greater(t, p.rounds, 1)
		require.Equal(t, report.LevelNormal, l.LevelStatus().Level)
	})
}

// What is asked for by name meets the same breaker as the rounds.
func TestOtherPublicationsMeetTheBreaker(t *testing.T) {
	refused := &publish.SlotError{Slot: 1, Err: errors.New("no broker answers")}
	pressing(t, func(t *testing.T, p *press) {
		p.single = refused
		for range 5 {
			_, _, err := p.CloseOne(t.Context(), report.WindowRef{Window: "hourly"})
			require.ErrorIs(t, err, refused)
		}
		pass(time.Millisecond)
		require.False(t, p.outlet.Direct())
		_, _, err := p.CloseOne(t.Context(), report.WindowRef{Window: "hourly"})
		require.ErrorContains(t, err, "breaker is open")
		_, err = p.Emit(t.Context(), ledger.ReasonFlush, nil)
		require.ErrorContains(t, err, "breaker is open")
		require.Equal(t, 5, p.rounds, "an open breaker lets nothing through")
		pass(30 * time.Second)
		p.single = nil
		_, published, err := p.CloseOne(t.Context(), report.WindowRef{Window: "hourly"})
		require.NoError(t, err)
		require.True(t, published)
	})
	pressing(t, func(t *testing.T, p *press) {
		for start := range int64(60) {
			p.report.Failed = append(p.report.Failed, report.FailedWindow{WindowRef: report.WindowRef{Window: "hourly", Start: start},
				Problem: refused.Error(), Kafka: true})
		}
		for n := range int64(5) {
			require.Equal(t, n, p.outlet.Status().Totals.Failed, "one slot, however many windows it has")
			_, err := p.Emit(t.Context(), ledger.ReasonFlush, nil)
			require.ErrorContains(t, err, "no broker answers")
		}
		pass(time.Millisecond)
		require.False(t, p.outlet.Direct())
	})
}

// A broker that does not know the topic yet has answered; a closer that is at work elsewhere asks nothing.
func TestResultsArePinged(t *testing.T) {
	pressing(t, func(t *testing.T, p *press) {
		unknown := fmt.Errorf("topic: %w", source.ErrUnknownTopic)
		p.away.Store(&unknown)
		p.play(t, 30, result.RoundReport{})
		require.True(t, p.outlet.Direct())
		require.Greater(t, p.pings.Load(), int64(10))
		pass(2 * unused)
		before := p.pings.Load()
		away := errors.New("no broker answers")
		p.away.Store(&away)
		pass(time.Hour)
		require.Equal(t, before, p.pings.Load())
		require.True(t, p.outlet.Direct())
		p.play(t, 10, result.RoundReport{})
		require.False(t, p.outlet.Direct(), "pings alone open it")
	})
}

// A drain or flush that meets an incident says so at once instead of trying again, and Kafka's breaker hears nothing of it.
func TestEmitTellsIncidentsAtOnce(t *testing.T) {
	pressing(t, func(t *testing.T, p *press) {
		const large = "incident row-too-large: a record has 2132 bytes, topic w takes 1488"
		failed := report.FailedWindow{WindowRef: report.WindowRef{Window: "w", Start: 1_700_000_400_000}, Problem: "Redis is away"}
		p.report.Failed = []report.FailedWindow{failed}
		_, err := p.Emit(t.Context(), ledger.ReasonFlush, nil)
		require.ErrorContains(t, err, "Redis is away")
		require.NotErrorIs(t, err, activities.ErrPermanent)
		failed.Problem, failed.Incident = large, true
		p.report.Failed = append(p.report.Failed, failed)
		for range 50 {
			_, err = p.Emit(t.Context(), ledger.ReasonFlush, nil)
			require.ErrorIs(t, err, activities.ErrPermanent)
			require.ErrorContains(t, err, "2 windows were not published; window w 2023-11-14T22:20:00Z: "+large)
		}
		_, open := p.outlet.open()
		require.False(t, open)
	})
}

// A flush under which lanes keep committing has nothing that failed, and is not done.
func TestEmitWhileLanesCommit(t *testing.T) {
	require.EqualError(t, unpublished(result.Receipt{Emitted: report.Emitted{Windows: 3}}), "lanes are in the middle of commits")
}
