package activities

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// carriesWindows is a job of n windows; each takes a turn of the given time.
func carriesWindows(n int, each time.Duration) func(context.Context, contract.CarryOutJob, Turn, func(contract.CarriedWindow)) error {
	return func(ctx context.Context, job contract.CarryOutJob, turn Turn, book func(contract.CarriedWindow)) error {
		for i := job.Report.Booked(); i < n; i++ {
			err := turn(ctx, func(ctx context.Context) error {
				select {
				case <-ctx.Done():
					return context.Cause(ctx)
				case <-time.After(each):
					return nil
				}
			})
			if err != nil {
				return err
			}
			book(contract.CarriedWindow{WindowRef: report.WindowRef{Window: "hourly", Start: int64(i)}, Outcome: contract.CarriedPublished})
		}
		return nil
	}
}

// carryJob runs CarryOut.
func carryJob(t *testing.T, hub *fakeTemporal, closer *fakeCloser, job contract.CarryOutJob, before *contract.JobReport,
) (*contract.CarriedOut, error) {
	t.Helper()
	closing := NewClosing(closer, newFakeRedis(), hub, hub, quiet)
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	env.RegisterActivity(closing)
	if before != nil {
		env.SetHeartbeatDetails(before)
	}
	job.Spec = []byte(specJSON)
	value, err := env.ExecuteActivity(closing.CarryOut, job)
	require.EqualValues(t, 0, closer.users.Load())
	if err != nil {
		return nil, err
	}
	var out contract.CarriedOut
	require.NoError(t, value.Get(&out))
	return &out, nil
}

func published(n int) *contract.JobReport {
	r := &contract.JobReport{}
	for i := range n {
		r.Add(contract.CarriedWindow{WindowRef: report.WindowRef{Window: "hourly", Start: int64(i)}, Outcome: contract.CarriedPublished})
	}
	return r
}

func TestAJobIsCarriedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(fakeTemporal)
		began := time.Now()
		out, err := carryJob(t, hub, &fakeCloser{carry: carriesWindows(30, 10*time.Millisecond)}, contract.CarryOutJob{ID: "j"}, nil)
		require.NoError(t, err)
		require.Equal(t, &contract.CarriedOut{ID: "j", Report: published(30)}, out)
		took := time.Since(began)
		require.GreaterOrEqual(t, took, 2*restTimes*restAfter+30*10*time.Millisecond, "it leaves the turn to closing in between")
		require.Less(t, took, time.Second)
	})
}

// What earlier attempts and earlier runs have booked is not done again, and stands in the answer.
func TestAJobGoesOn(t *testing.T) {
	for name, c := range map[string]struct{ run, attempt *contract.JobReport }{
		"after an attempt":                {nil, published(3)},
		"after a run":                     {published(3), nil},
		"after an attempt of a later run": {published(2), published(3)},
		"after an attempt that had begun": {published(3), published(1)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first := -1
				closer := &fakeCloser{carry: func(ctx context.Context, job contract.CarryOutJob, turn Turn, book func(contract.CarriedWindow)) error {
					first = job.Report.Booked()
					return carriesWindows(5, 0)(ctx, job, turn, book)
				}}
				out, err := carryJob(t, new(fakeTemporal), closer, contract.CarryOutJob{ID: "j", Report: c.run}, c.attempt)
				require.NoError(t, err)
				require.Equal(t, 3, first)
				require.Equal(t, published(5), out.Report)
			})
		})
	}
}

func TestAJobThatIsCalledOffSaysWhatWasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub := new(fakeTemporal)
		time.AfterFunc(9*time.Second, func() { hub.set(temporal.NewCanceledError()) })
		out, err := carryJob(t, hub, &fakeCloser{carry: carriesWindows(1000, 700*time.Millisecond)}, contract.CarryOutJob{ID: "j"}, nil)
		require.NoError(t, err)
		require.True(t, out.Unfinished)
		require.Empty(t, out.Problem)
		require.Equal(t, 5, out.Report.Booked())
		require.Equal(t, published(5), hub.last, "heartbeats say it, too")
	})
}

func TestAJobFails(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		problem string // of an answer that is final
		kind    string // of an error
	}{
		"refused":   {&JobRefusedError{"its kind is unknown"}, "its kind is unknown", ""},
		"permanent": {fmt.Errorf("state of another format: %w", ErrPermanent), "", contract.ErrorPermanent},
		"trouble":   {errUnavailable, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				closer := &fakeCloser{carry: func(_ context.Context, _ contract.CarryOutJob, _ Turn, book func(contract.CarriedWindow)) error {
					if name != "refused" {
						book(contract.CarriedWindow{Outcome: contract.CarriedPublished})
					}
					return c.err
				}}
				out, err := carryJob(t, new(fakeTemporal), closer, contract.CarryOutJob{ID: "j"}, nil)
				if c.problem != "" {
					require.NoError(t, err)
					require.Equal(t, &contract.CarriedOut{ID: "j", Problem: c.problem}, out)
					return
				}
				require.Error(t, err)
				if c.kind != "" {
					requireType(t, err, c.kind)
				}
			})
		})
	}
}
