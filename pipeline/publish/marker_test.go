package publish_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/publish"
)

// A commit is acknowledged before its markers stand in all partitions, and a transaction may take longer than a slot trusts what
// it has read of its ledger: the row that it reads on behind is hidden then. It is shown all the same.
func TestARowIsShownWhileItsMarkerIsLate(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	d.publish(s, 1, true, before)
	hides, err := d.kafka.Open(t.Context(), 99)
	require.NoError(t, err)
	require.NoError(t, hides.Begin())
	require.NoError(t, publish.Send(t.Context(), hides, []publish.Record{{Topic: "p.ledger", Partition: 0, Value: []byte(`{}`)}}))

	require.NoError(t, s.Do(func(h *publish.Held) error {
		if _, err := h.Publish(t.Context(), d.draft(h, 2, true), &content{rows: other.without()}); err != nil {
			return err
		}
		d.pass(publish.LedgerTrust + time.Second)
		return h.ShowRows(t.Context())
	}))
	_, shown := d.view(2)
	require.Equal(t, other.without(), shown)
}
