package activities

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
)

// TestTroubleOfTheLastTryIsNoError: the answer says what was done and why it is not all; whoever carries jobs out goes on with
// another one.
func TestTroubleOfTheLastTryIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closer := &fakeCloser{carry: func(_ context.Context, _ contract.CarryOutJob, _ Turn, book func(contract.CarriedWindow)) error {
			book(contract.CarriedWindow{Outcome: contract.CarriedPublished})
			return errUnavailable
		}}
		job := contract.CarryOutJob{ID: "j", Tries: 1}
		out, err := carryJob(t, new(fakeTemporal), closer, job, nil)
		require.NoError(t, err)
		require.True(t, out.Unfinished)
		require.Equal(t, errUnavailable.Error(), out.Trouble)
		require.Equal(t, 1, out.Report.Booked())

		job.Tries = 2
		_, err = carryJob(t, new(fakeTemporal), closer, job, nil)
		require.ErrorContains(t, err, errUnavailable.Error())
	})
}
