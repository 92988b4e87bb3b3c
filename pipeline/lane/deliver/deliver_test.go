package deliver

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"millrace/pipeline/journal"
	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/wal"
	"millrace/pipeline/wal/faultfs"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

var (
	testLane = foldtest.Lane
	headerOf = foldtest.HeaderOf
)

func testStore(t testing.TB) (*store.Store, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	cfg := store.DefaultConfig()
	cfg.Addrs = []string{server.Addr()}
	client, err := store.NewClient(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return store.New(client), server
}

// sideLog collects side records.
type sideLog struct {
	records []source.SideRecord
	fail    error
}

func (s *sideLog) Send(_ context.Context, records []source.SideRecord) error {
	if s.fail != nil {
		return s.fail
	}
	s.records = append(s.records, records...)
	return nil
}

// gateway is a route that is shut and opened by hand.
type gateway struct{ shut atomic.Bool }

func (g *gateway) Direct() bool            { return !g.shut.Load() }
func (g *gateway) Report(error)            {}
func (g *gateway) Admit(int) time.Duration { return 0 }

// segment is the size of the journal's segments.
const segment = 256 << 10

// openJournal opens a journal in memory that takes limit bytes.
func openJournal(t *testing.T, limit int64) *journal.Journal {
	t.Helper()
	j, _, err := journal.Open(journal.Config{Log: wal.Config{Dir: "wal", FS: faultfs.New(0), SegmentSize: segment, HardLimit: limit, RetryAfter: time.Millisecond}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = j.Close() })
	return j
}
