package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// fakeCloser answers rounds by a script; the last answer is repeated.
type fakeCloser struct {
	rounds []func() (report.Round, error)
	count  int
	skip   []report.WindowRef
	users  atomic.Int64
	run    string // that asked for it last

	open     *report.OpenTransaction
	hindered []error
	carry    func(ctx context.Context, job contract.CarryOutJob, turn Turn, book func(contract.CarriedWindow)) error
}

func (f *fakeCloser) CarryOut(ctx context.Context, job contract.CarryOutJob, turn Turn, book func(contract.CarriedWindow)) error {
	return f.carry(ctx, job, turn, book)
}

func (f *fakeCloser) Round(_ context.Context, skip []report.WindowRef) (report.Round, error) {
	f.skip = skip
	answer := f.rounds[min(f.count, len(f.rounds)-1)]
	f.count++
	return answer()
}

func (f *fakeCloser) CloseOne(context.Context, report.WindowRef) (report.ClosedWindow, bool, error) {
	return report.ClosedWindow{}, false, errUnavailable
}

func (f *fakeCloser) OpenTransaction() *report.OpenTransaction { return f.open }

func (f *fakeCloser) Hindered(err error) { f.hindered = append(f.hindered, err) }

func (f *fakeCloser) Emit(context.Context, string, []report.LaneEnd) (report.Emitted, error) {
	return report.Emitted{Revisions: make([]report.ClosedWindow, 2*contract.MaxEmittedRevisions)}, nil
}

func (f *fakeCloser) Closer(_ context.Context, _ *spec.Spec, run string) (Closer, func(), error) {
	f.users.Add(1)
	f.run = run
	return f, func() { f.users.Add(-1) }, nil
}

func nothing() (report.Round, error) {
	return report.Round{Waiting: report.Waiting{For: "the watermark", Lane: "orders/3"}}, nil
}

func closes(window string, n int) func() (report.Round, error) {
	return func() (report.Round, error) {
		r := report.Round{Closed: make([]report.ClosedWindow, n)}
		for i := range r.Closed {
			r.Closed[i] = report.ClosedWindow{WindowRef: report.WindowRef{Window: window, Start: int64(i)}, Revision: 1}
		}
		return r, nil
	}
}

func fails(starts ...int64) func() (report.Round, error) {
	return func() (report.Round, error) {
		var r report.Round
		for _, s := range starts {
			r.Failed = append(r.Failed, report.FailedWindow{WindowRef: report.WindowRef{Window: "hourly", Start: s},
				Problem: strings.Repeat("x", 9000)})
		}
		return r, nil
	}
}

func breaks() (report.Round, error) { return report.Round{}, errUnavailable }

// closeDue runs the body of CloseDue with scripted rounds and returns its result, how long it took, and its progress.
func closeDue(t *testing.T, hub *fakeTemporal, stopping chan struct{}, rounds ...func() (report.Round, error),
) (*due, time.Duration, error) {
	t.Helper()
	closer := &fakeCloser{rounds: rounds}
	c := NewClosing(closer, newFakeRedis(), hub, hub, quiet)
	d := &due{
		in: contract.CloseDueInput{Pipeline: "orders", Skip: []report.WindowRef{{Window: "hourly", Start: 99}}}, began: time.Now(),
		sizes: sizes(orders(t)), fails: make(map[report.WindowRef]int),
	}
	a := &attempt{beats: hub, every: closeBeat, stopping: stopping}
	err := a.hold(context.Background(), d.details, func(ctx context.Context) error { return c.rounds(ctx, closer, d) })
	require.Equal(t, d.in.Skip, closer.skip)
	return d, time.Since(d.began).Round(time.Second), err
}

func TestCloseDueReturns(t *testing.T) {
	tests := []struct {
		name    string
		rounds  []func() (report.Round, error)
		outcome string
		count   int
		after   time.Duration
	}{
		{"large windows at once", []func() (report.Round, error){nothing, nothing, closes("hourly", 3)}, contract.OutcomeClosed, 3,
			2 * time.Second},
		{"small windows after a minute", []func() (report.Round, error){nothing, closes("secondly", 1), nothing}, contract.OutcomeClosed,
			1, time.Minute},
		{"after 200 closes", []func() (report.Round, error){closes("secondly", 150)}, contract.OutcomeClosed, 300, 0},
		{"after twelve hours without", []func() (report.Round, error){nothing}, contract.OutcomeIdle, 0, 12 * time.Hour},
		{"a window failed three times", []func() (report.Round, error){fails(1, 2), fails(1), fails(1)}, contract.OutcomeFailing, 0,
			2 * time.Second},
		{"failing after closing tells what was closed", []func() (report.Round, error){closes("secondly", 1), breaks},
			contract.OutcomeClosed, 1, 2 * time.Second},
		{"a failure now and then is nothing", []func() (report.Round, error){breaks, breaks, nothing, breaks, breaks,
			closes("hourly", 1)}, contract.OutcomeClosed, 1, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d, took, err := closeDue(t, new(fakeTemporal), nil, tt.rounds...)
				require.NoError(t, err)
				require.Equal(t, tt.outcome, d.result.Outcome)
				require.Equal(t, tt.count, d.result.Count)
				require.Equal(t, tt.after, took)
				data, err := json.Marshal(d.result)
				require.NoError(t, err)
				require.Less(t, len(data), 64<<10)
				if tt.outcome == contract.OutcomeFailing {
					require.Len(t, d.result.Failed, 1)
				}
			})
		})
	}
}

func TestCloseDueFailsWhenItCannotLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, took, err := closeDue(t, new(fakeTemporal), nil, breaks)
		require.ErrorIs(t, err, errUnavailable)
		require.Equal(t, 2*time.Second, took)
		_, _, err = closeDue(t, new(fakeTemporal), nil, func() (report.Round, error) {
			return report.Round{}, fmt.Errorf("ledger of another format: %w", ErrPermanent)
		})
		requireType(t, err, contract.ErrorPermanent)
	})
}

func TestCloseDueGoesOnWhileTemporalIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(fakeTemporal)
		began := time.Now()
		d, _, err := closeDue(t, hub, nil, func() (report.Round, error) {
			switch passed := time.Since(began); {
			case passed > 6*time.Hour:
				return closes("hourly", 1)()
			case passed > time.Minute:
				hub.setAway(errUnavailable)
			}
			return nothing()
		})
		require.NoError(t, err)
		require.Equal(t, 1, d.result.Count)
		require.Equal(t, "the watermark", hub.last.(*contract.CloseDueDetails).Waiting.For)
		require.Equal(t, "orders/3", hub.last.(*contract.CloseDueDetails).Waiting.Lane)
	})
}

func TestCloseDueEnds(t *testing.T) {
	closed := closes("secondly", 1)
	tests := []struct {
		name    string
		first   func() (report.Round, error)
		tell    func(*fakeTemporal, chan struct{})
		outcome string
		kind    string
	}{
		{"cancelled", closed, func(h *fakeTemporal, _ chan struct{}) { h.set(temporal.NewCanceledError()) }, contract.OutcomeStopped, ""},
		{"attempt over", closed, func(h *fakeTemporal, _ chan struct{}) { h.set(serviceerror.NewNotFound("x")) }, "",
			contract.ErrorAttemptOver},
		{"worker stops, something to tell", closed, func(_ *fakeTemporal, s chan struct{}) { close(s) }, contract.OutcomeClosed, ""},
		{"worker stops, nothing to tell", nothing, func(_ *fakeTemporal, s chan struct{}) { close(s) }, "", contract.ErrorMoved},
		{"pipeline gone", nothing, func(h *fakeTemporal, _ chan struct{}) { h.setClosed("pipeline:orders") }, contract.OutcomePipelineGone,
			""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub, stopping := new(fakeTemporal), make(chan struct{})
				time.AfterFunc(10*time.Second, func() { tt.tell(hub, stopping) })
				d, _, err := closeDue(t, hub, stopping, tt.first, nothing)
				if tt.kind != "" {
					requireType(t, err, tt.kind)
					return
				}
				require.NoError(t, err)
				require.Equal(t, tt.outcome, d.result.Outcome)
			})
		})
	}
}

// A window that cannot be closed is given up once its pipeline is found closed twice; Temporal being away is no reason.
func TestCloseOneGivesUpWhenThePipelineIsGone(t *testing.T) {
	for name, c := range map[string]struct {
		tell func(*fakeTemporal)
		gone bool
	}{
		"open":   {func(*fakeTemporal) {}, false},
		"closed": {func(h *fakeTemporal) { h.setClosed("pipeline:orders") }, true},
		"closed, then open again": {func(h *fakeTemporal) {
			h.setClosed("pipeline:orders")
			time.AfterFunc(contract.OpenCheckEvery/2, func() { h.setClosed("another") })
		}, false},
		"not known": {func(h *fakeTemporal) { h.setClosed("pipeline:orders"); h.setAway(errUnavailable) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hub := new(fakeTemporal)
				c.tell(hub)
				closing := NewClosing(&fakeCloser{}, newFakeRedis(), hub, hub, quiet)
				var suite testsuite.WorkflowTestSuite
				env := suite.NewTestActivityEnvironment()
				env.RegisterActivity(closing)
				value, err := env.ExecuteActivity(closing.CloseOne, contract.CloseOneInput{Spec: []byte(specJSON)})
				require.Equal(t, c.gone, err == nil, "%v", err)
				if c.gone {
					var result contract.CloseOneResult
					require.NoError(t, value.Get(&result))
					require.True(t, result.Gone)
				}
			})
		})
	}
}

// A window that fails, then closes, starts counting anew.
func TestFailuresAreCountedInARow(t *testing.T) {
	d := &due{fails: make(map[report.WindowRef]int), sizes: map[string]time.Duration{}}
	for _, round := range []func() (report.Round, error){fails(0), fails(0), closes("hourly", 1), fails(0), fails(0)} {
		r, _ := round()
		d.book(r)
	}
	require.Empty(t, d.result.Failed)
	r, _ := fails(0)()
	d.book(r)
	require.Len(t, d.result.Failed, 1)
	require.Len(t, d.result.Failed[0].Problem, maxProblem)
	d.book(r)
	require.Len(t, d.result.Failed, 1, "told once")
}

// What the last round counted of what is kept stays in progress and result, also when a round does not come to it.
func TestWhatIsKeptIsTold(t *testing.T) {
	hub := new(fakeTemporal)
	kept := &report.Kept{Rows: 350, Results: 120, Oldest: 7, Backlog: 3, Floor: 9}
	counted := func() (report.Round, error) { return report.Round{Kept: kept}, nil }
	synctest.Test(t, func(t *testing.T) {
		d, _, err := closeDue(t, hub, nil, counted, nothing, closes("hourly", 1))
		require.NoError(t, err)
		require.Equal(t, kept, d.result.Kept)
		require.Equal(t, kept, d.details().(*contract.CloseDueDetails).Kept)
	})
}

// A transaction that is open is told while the round that opened it goes on.
func TestAnOpenTransactionIsTold(t *testing.T) {
	open := &report.OpenTransaction{Window: report.WindowRef{Window: "hourly"}, Revision: 1, Since: 7, Rows: 9}
	d := new(due)
	require.Equal(t, &contract.CloseDueDetails{}, d.details())
	var closer Closer = &fakeCloser{open: open}
	d.closer.Store(&closer)
	require.Equal(t, &contract.CloseDueDetails{Open: open}, d.details())
	d.shown.Store(&contract.CloseDueDetails{Closed: 3})
	require.Equal(t, &contract.CloseDueDetails{Closed: 3, Open: open}, d.details())
	require.Equal(t, &contract.CloseDueDetails{Closed: 3}, d.shown.Load(), "what the round has told stays")
}

// Of two activities that close windows of a pipeline one waits for the other; a holder that died is waited for no longer
// than its lease.
func TestClosersTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis := newFakeRedis()
		closing := func() *Closing { return NewClosing(&fakeCloser{}, redis, new(fakeTemporal), new(fakeTemporal), quiet) }
		_, _, err := redis.AcquireLease(context.Background(), "orders", closerTurn, Lease{Token: "died"}, contract.LeaseTTL)
		require.NoError(t, err)
		began, working, most := time.Now(), 0, 0
		done := make(chan error)
		for range 3 {
			go func() {
				done <- closing().turn(context.Background(), "orders", func(context.Context) error {
					working++
					most = max(most, working)
					pass(20 * time.Second)
					working--
					return errUnavailable
				})
			}()
		}
		for range 3 {
			require.ErrorIs(t, <-done, errUnavailable)
		}
		require.Equal(t, 1, most)
		require.InDelta(t, 65, time.Since(began).Seconds(), 1)
		require.Empty(t, redis.leases)

		_, _, err = redis.AcquireLease(context.Background(), "orders", closerTurn, Lease{Token: "other"}, time.Hour)
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(time.Minute, func() { cancel(errCancelled) })
		require.ErrorIs(t, closing().turn(ctx, "orders", nil), errCancelled)
		redis.setAway(errUnavailable)
		require.ErrorIs(t, closing().turn(context.Background(), "orders", nil), errUnavailable)
	})
}

func TestEndedAnswers(t *testing.T) {
	require.True(t, temporal.IsCanceledError(ended(errCancelled)))
	other := errors.New("another reason")
	require.Equal(t, other, ended(other))
}
