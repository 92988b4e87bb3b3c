package app

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/spec"
)

// carriedWindows is a closer whose jobs the test plays.
type carriedWindows struct {
	fakeWindows
	job   result.Job
	books []result.Carried
	fails error
}

func (f *carriedWindows) CarryOut(ctx context.Context, job result.Job, turn result.Turn, book func(result.Carried)) error {
	f.job = job
	for _, w := range f.books {
		if err := turn(ctx, func(context.Context) error { book(w); return nil }); err != nil {
			return err
		}
	}
	return f.fails
}

func carryHere(t *testing.T, w *workshop, f *carriedWindows, kind string) (booked []contract.CarriedWindow, err error) {
	c, done := w.take(t, &spec.Spec{Name: "orders"})
	defer done()
	c.windows = f
	job := contract.CarryOutJob{ID: "j", Kind: kind, Body: []byte(`{}`),
		Report: &contract.JobReport{Counts: []contract.JobCount{{Outcome: "moved", Windows: 7}}}}
	atOnce := func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	err = c.CarryOut(t.Context(), job, atOnce, func(w contract.CarriedWindow) { booked = append(booked, w) })
	return booked, err
}

func TestWhatBecameOfAJobsWindows(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		id := ledger.WindowID{Window: "hourly", Start: 7}
		f := &carriedWindows{books: []result.Carried{
			{Window: id, Verdict: publish.VerdictPublished, Revision: 2}, {Window: id, Verdict: publish.VerdictDone, Revision: 2},
			{Window: id, Verdict: publish.VerdictMoved, Revision: 3, Problem: "by now"},
			{Window: id, Verdict: publish.VerdictOpen, Problem: "lanes"},
			{Window: id, Verdict: publish.VerdictUnchanged}, {Window: id, Problem: "its base is gone"},
		}}
		ref := report.WindowRef{Window: "hourly", Start: 7}
		want := []contract.CarriedWindow{
			{WindowRef: ref, Outcome: contract.CarriedPublished, Revision: 2}, {WindowRef: ref, Outcome: contract.CarriedBefore, Revision: 2},
			{WindowRef: ref, Outcome: contract.CarriedMoved, Revision: 3, Problem: "by now"},
			{WindowRef: ref, Outcome: contract.CarriedMoved, Problem: "lanes"}, {WindowRef: ref, Outcome: contract.CarriedUnchanged},
			{WindowRef: ref, Outcome: contract.CarriedFailed, Problem: "its base is gone"},
		}
		booked, err := carryHere(t, w, f, contract.JobCorrections)
		require.NoError(t, err)
		require.Equal(t, want, booked)
		require.Equal(t, result.Job{ID: "j", Kind: contract.JobCorrections, Body: []byte(`{}`), Done: 7}, f.job)
		booked, err = carryHere(t, w, f, contract.JobCertify)
		require.NoError(t, err)
		require.Equal(t, contract.CarriedCertified, booked[0].Outcome)
	})
}

func TestJobsThatFail(t *testing.T) {
	working(t, func(t *testing.T, w *workshop) {
		_, err := carryHere(t, w, &carriedWindows{fails: &result.RefusedJobError{Job: "j", Why: "the difference is gone"}}, contract.JobCertify)
		var refused *activities.JobRefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, "the difference is gone", refused.Why)

		f := &carriedWindows{fails: &publish.SlotError{Err: errors.New("no broker answers")}}
		for range 20 { // enough for the state machine of the result topic to see that Kafka is away
			_, err = carryHere(t, w, f, contract.JobCorrections)
			require.Error(t, err)
			pass(100 * time.Millisecond)
		}
		f.job = result.Job{}
		_, err = carryHere(t, w, f, contract.JobCorrections)
		require.Error(t, err)
		require.Empty(t, f.job.ID, "while Kafka does not take results a job is left alone")
	})
}
