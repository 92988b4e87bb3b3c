package publish_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/internal/dev"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/tests/long"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

const (
	hour = int64(3_600_000)
	base = int64(1_699_920_000_000) // ms
)

// A row that is open for long moves to the end of the log, so that it does not hold readers back.
func TestOldRowsInForceMove(t *testing.T) {
	kafka := &countingKafka{Kafka: newLedgerKafka()}
	now := time.UnixMilli(base)
	s := publish.NewTestSlot(kafka, keepFor(t, "1s"), func() time.Time { return now })
	const open = 1_000_000
	s.Publish(t, open, false)
	for round := range 40 {
		for i := range 500 {
			s.Publish(t, int64(1+500*round+i), true)
		}
		now = now.Add(time.Minute)
		s.KeepFloors(t, int64(1+500*(round+1))*hour)
	}
	next := publish.NewTestSlot(kafka, keepFor(t, "1s"), func() time.Time { return now })
	kafka.records = 0
	next.CatchUp(t)
	require.Less(t, kafka.records, 9000, "of 40,000 records")
	require.Contains(t, next.Windows(), int64(open))
}

// The ledger was made again under a slot that remembers where its rows stood: another window's row at that place is not
// the one it looks for, and the slot reads the new ledger.
func TestRowsOfALedgerMadeAgainAreNotTaken(t *testing.T) {
	kafka := newLedgerKafka()
	now := func() time.Time { return time.UnixMilli(base) }
	s := publish.NewTestSlot(kafka, keepFor(t, "1h"), now)
	s.Publish(t, 1, true)
	s.Publish(t, 2, true)
	s.Forget()
	row, err := s.Latest(t.Context(), 1)
	require.NoError(t, err)
	require.Equal(t, 1*hour, row.Start)

	kafka.MakeTopicAgain(ledger.Topic("p"), "again", 1)
	other := publish.NewTestSlot(kafka, keepFor(t, "1h"), now)
	other.Publish(t, 2, true) // at the place of window 1
	s.Forget()
	_, err = s.Latest(t.Context(), 1)
	require.ErrorIs(t, err, publish.ErrRowMoved)
	s.CatchUp(t)
	require.Equal(t, []int64{2}, s.Windows())
}

// A closer is frozen between a transaction and what follows it in Redis. Meanwhile the pipeline is removed and another one of
// its name begins: what Redis has under the same names is not the frozen closer's any more.
func TestAThawedSlotWritesNothingOfAnotherIncarnation(t *testing.T) {
	for name, remove := range map[string]func(*publishtest.Kafka){
		"ledger kept": func(k *publishtest.Kafka) {
			require.NoError(t, publish.EndIncarnation(t.Context(), k, "p", true, func(int64) {}))
		},
		"ledger made again": func(k *publishtest.Kafka) {
			require.NoError(t, publish.EndIncarnation(t.Context(), k, "p", false, func(int64) {}))
			k.MakeTopicAgain(ledger.Topic("p"), "again", 1)
		},
	} {
		for _, begun := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, begun %t", name, begun), func(t *testing.T) {
				kafka := newLedgerKafka()
				now := time.UnixMilli(base)
				clock := func() time.Time { return now }
				frozen := publish.NewTestSlot(kafka, keepFor(t, "1h"), clock)
				for n := range int64(9) {
					frozen.Publish(t, n, true)
				}
				frozen.KeepFloors(t, 5*hour)
				frozen.PublishUnshown(t, 9, true)
				draft := frozen.Draft(10)

				remove(kafka)
				now = now.Add(10 * time.Second)
				var theirs []string
				if begun {
					next := publish.NewTestSlot(kafka, keepFor(t, "1h"), clock)
					next.PublishUnshown(t, 9, true)
					next.PublishUnshown(t, 10, true)
					theirs = next.Show(t)
					require.Contains(t, theirs, fmt.Sprintf("show 9 of %d", now.UnixMilli()))
					require.ErrorIs(t, frozen.PublishDraft(t.Context(), draft), publish.ErrFenced)
				}
				require.Subset(t, theirs, frozen.Show(t), "at most what the new closer writes, too")
			})
		}
	}
}

// TestTakeOverReadsRowsInForce: what a closer that takes over reads follows from the rows in force, not from history,
// whether Kafka's cleaner has run or not.
func TestTakeOverReadsRowsInForce(t *testing.T) {
	read := func(gone int) int {
		kafka := &countingKafka{Kafka: newLedgerKafka()}
		now := time.UnixMilli(base)
		s := publish.NewTestSlot(kafka, keepFor(t, "1h"), func() time.Time { return now })
		s.GiveUp(t, gone, &now)
		for i := range 500 {
			s.Publish(t, int64(gone+i), true)
		}
		kafka.records = 0
		next := publish.NewTestSlot(kafka, keepFor(t, "1h"), func() time.Time { return now })
		next.CatchUp(t)
		require.Len(t, next.Windows(), 500)
		return kafka.records
	}
	history := 20_000
	if long.Wanted {
		history = 100_000
	}
	few, many := read(1_000), read(history)
	t.Logf("records read: %d after 1,000 rows given up, %d after %d", few, many, history)
	require.LessOrEqual(t, many, 2*few)
}

// countingKafka counts the records that readers are given.
type countingKafka struct {
	publish.Kafka
	records int
}

func (k *countingKafka) ReadCommitted(ctx context.Context, tp source.TopicPartition, from int64, fn func(source.Record) error) (int64, error) {
	return k.Kafka.ReadCommitted(ctx, tp, from, func(r source.Record) error {
		k.records++
		return fn(r)
	})
}

func newLedgerKafka() *publishtest.Kafka {
	k := publishtest.New()
	k.AddTopic("p.ledger", 1)
	return k
}

func keepFor(t testing.TB, results string) spec.Retention {
	d, err := spec.ParseDuration(results)
	require.NoError(t, err)
	return spec.Retention{Results: d, Ledger: d}
}

// Over a real client a tombstone is a record without a value, and a closer that takes over begins at the rows in force,
// also when the cleaner has run.
func TestFloorsOverARealClient(t *testing.T) {
	ctx := t.Context()
	broker, err := dev.StartKafka(ctx, dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { broker.Close() })
	cfg := source.Config{Brokers: []string{broker.Addr()}}
	cluster, err := source.NewCluster(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { cluster.Close() })
	_, err = cluster.EnsureTopic(ctx, source.TopicSpec{Name: "p.ledger", Compacted: true})
	require.NoError(t, err)
	kafka := &countingKafka{Kafka: publish.NewClient(cfg, cluster, "p")}

	now := time.UnixMilli(base)
	clk := func() time.Time { return now }
	s := publish.NewTestSlot(kafka, keepFor(t, "1h"), clk)
	s.GiveUp(t, 1500, &now)
	for i := range int64(5) {
		s.Publish(t, 1500+i, true)
	}
	s.Close()
	tombstones := 0
	require.NoError(t, ledger.Read(ctx, cluster, "p", func(rec ledger.Record) error {
		if rec.Tombstone != nil {
			tombstones++
		}
		return nil
	}))
	require.Equal(t, 1500, tombstones)

	next := publish.NewTestSlot(kafka, keepFor(t, "1h"), clk)
	t.Cleanup(next.Close)
	kafka.records = 0
	next.CatchUp(t)
	require.ElementsMatch(t, []int64{1500, 1501, 1502, 1503, 1504}, next.Windows())
	require.Less(t, kafka.records, 1500, "of 3,000 and more")
}
