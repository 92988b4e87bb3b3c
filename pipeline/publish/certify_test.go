package publish_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
)

func (d *desk) certificate(row *ledger.Row, replay string) ledger.Certificate {
	return ledger.Certificate{
		Pipeline: "p", Window: row.Window, Start: row.Start, Edition: ledger.Edition, Revision: row.Revision, Replay: replay, By: "test", Keys: row.Keys,
		Events: row.Events, Checksum: row.Checksum, Scope: ledger.ScopeWhole, Lanes: []ledger.CertifiedLane{{Topic: "t", To: 5}},
	}
}

func (d *desk) certify(s *publish.Slot, c ledger.Certificate) publish.Verdict {
	d.t.Helper()
	var done publish.Corrected
	require.NoError(d.t, s.Do(func(h *publish.Held) (err error) {
		done, err = h.Certify(d.t.Context(), c)
		return err
	}))
	return done.Verdict
}

// certified lists the certificates that the ledger holds, as "<window number> <replay>".
func (d *desk) certified() []string {
	d.t.Helper()
	found := map[ledger.WindowID]string{}
	require.NoError(d.t, ledger.Read(d.t.Context(), d.kafka, "p", func(rec ledger.Record) error {
		switch {
		case rec.Certificate != nil:
			found[rec.Certificate.ID()] = fmt.Sprintf("%d %s", rec.Certificate.Start/hour, rec.Certificate.Replay)
		case rec.Uncertified != nil:
			delete(found, *rec.Uncertified)
		}
		return nil
	}))
	var all []string
	for _, text := range found {
		all = append(all, text)
	}
	return all
}

func (d *desk) raiseFloors(s *publish.Slot, end int64) {
	d.t.Helper()
	final := &publish.Finality{Edition: ledger.Edition, End: end, Lanes: []ledger.FloorLane{{Topic: "t"}}}
	require.NoError(d.t, s.MaintainFloors(d.t.Context(), final, func(context.Context, *publish.Held) error { return nil }))
}

func TestACertificateStandsBesideItsRow(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	row := d.publish(s, 1, true, before)
	c := d.certificate(row, "x")
	require.Equal(t, publish.VerdictPublished, d.certify(s, c))
	require.Equal(t, publish.VerdictDone, d.certify(s, c))
	s = d.slot()
	require.Equal(t, publish.VerdictDone, d.certify(s, c))
	require.Equal(t, publish.VerdictPublished, d.certify(s, d.certificate(row, "y")), "a later recount")
	corrected := d.correct(s, d.correction(row, "z", after)).Row
	require.Equal(t, publish.VerdictMoved, d.certify(s, c))
	require.Equal(t, publish.VerdictPublished, d.certify(s, d.certificate(corrected, "x")))
	require.Equal(t, []string{"1 x"}, d.certified())
	require.Equal(t, publish.VerdictMoved, d.certify(s, d.certificate(&ledger.Row{Window: "hour", Start: 7 * hour, Revision: 1}, "x")))
}

// Certificates are given up with the rows that they stand beside, also by a closer that has only read of them, and one whose
// row an earlier version gave up alone goes, too.
func TestCertificatesGoWithTheirRows(t *testing.T) {
	for name, another := range map[string]bool{"the same closer": false, "another closer": true} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			s := d.slot()
			for n := range int64(3) {
				require.Equal(t, publish.VerdictPublished, d.certify(s, d.certificate(d.publish(s, n, true, before), "x")))
			}
			d.raiseFloors(s, 3*hour)
			if another {
				s = d.slot()
			}
			d.pass(59 * time.Minute)
			d.publish(s, 3, true, before)
			d.certify(s, d.certificate(d.latest(3), "x"))
			d.raiseFloors(s, 4*hour)
			require.Len(t, d.certified(), 4)
			d.pass(time.Minute)
			d.raiseFloors(s, 4*hour)
			require.Equal(t, []string{"3 x"}, d.certified())
			require.Nil(t, d.latest(1))
			require.NotNil(t, d.latest(3))
		})
	}
}

// A row that moves to the end of the log takes its certificate along: what stands before is no more in force, and a closer
// that begins there knows of it.
func TestCertificatesMoveWithTheirRows(t *testing.T) {
	d := newDesk(t)
	now := d.now
	clock := func() time.Time { return now }
	s := publish.NewTestSlot(d.kafka, keepFor(t, "1s"), clock)
	const open = 1_000_000
	s.Publish(t, open, false)
	require.Equal(t, publish.VerdictPublished, s.Certify(t, d.certificate(&ledger.Row{
		Window: "hour", Start: open * hour, Revision: 1, Keys: 1, Events: 1, Checksum: "00"}, "x")))
	for round := range 20 {
		for i := range 500 {
			s.Publish(t, int64(1+500*round+i), true)
		}
		now = now.Add(time.Minute)
		s.KeepFloors(t, int64(1+500*(round+1))*hour)
	}
	kafka := &countingKafka{Kafka: d.kafka}
	next := publish.NewTestSlot(kafka, keepFor(t, "1s"), clock)
	next.CatchUp(t)
	require.Less(t, kafka.records, 9000, "of 20,000 records")
	require.Contains(t, next.Windows(), int64(open))
	require.Equal(t, []int64{open}, next.Certified())
}
