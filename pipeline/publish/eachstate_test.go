package publish_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
)

func TestEachStateIsOfTheRevisionOrGone(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	base := d.publish(s, 0, true, rows{`{"k":"a"}`: "1", `{"k":"b"}`: "2", `{"k":"c"}`: "3"})
	each := func(row *ledger.Row) (rows, error) {
		found := rows{}
		err := d.contents().EachState(t.Context(), row, func(key, state []byte) error {
			found[string(key)] = string(state)
			return nil
		})
		return found, err
	}
	var gone *publish.GoneError
	_, err := each(base)
	require.ErrorAs(t, err, &gone, "its states were not published")

	row := d.correct(s, withStates(d.correction(base, "x", rows{`{"k":"a"}`: "1", `{"k":"b"}`: "7", `{"k":"c"}`: "-"}), rows{`{"k":"a"}`: "1", `{"k":"b"}`: "7", `{"k":"c"}`: "-"})).Row
	require.NotEmpty(t, row.States)
	found, err := each(row)
	require.NoError(t, err)
	require.Equal(t, rows{`{"k":"a"}`: "s1", `{"k":"b"}`: "s7"}, found)

	row = d.correct(s, withStates(d.correction(row, "y", rows{`{"k":"a"}`: "2"}), rows{`{"k":"a"}`: "2", `{"k":"b"}`: "-"})).Row
	found, err = each(row)
	require.NoError(t, err)
	require.Equal(t, rows{`{"k":"a"}`: "s2"}, found, "those of earlier revisions are passed over")

	failed := errors.New("full")
	err = d.contents().EachState(t.Context(), row, func(_, _ []byte) error { return failed })
	require.ErrorIs(t, err, failed)

	other := *row
	other.Checksum = base.Checksum
	_, err = each(&other)
	require.ErrorAs(t, err, &gone)
	d.kafka.MakeTopicAgain(ledger.StatesTopic("p"), "another", 2)
	_, err = each(row)
	require.ErrorAs(t, err, &gone)
	require.ErrorContains(t, err, "holds 0 with ")
}
