package integration

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/tests/rig"
)

// still is for how many looks in a row nothing must be read before reading counts as stopped.
const still = 40

// journalFills takes Redis away until the journal has no more room: the worker lives, reads nothing, and says so.
func (p *pipeline) journalFills(worker *journalWorker, rdb *rig.Redis) {
	p.T.Helper()
	rdb.Kill()
	p.entered(worker.Name, report.LevelPaused)
	last, same := worker.read(p.T), 0
	rig.Eventually(p.T, "intake stops", patience, func() bool {
		read := worker.read(p.T)
		if same++; read != last {
			last, same = read, 0
		}
		return same >= still
	})
	require.Less(p.T, int64(last), p.Total(), "there is nothing left to read")
	require.False(p.T, worker.Ended(), "%s", worker.Tail(20))
}

// journalIsProved waits for the end of the degradation and wants everything that was spilled to be drained.
func (p *pipeline) journalIsProved(worker *journalWorker) contract.DegradeStatus {
	p.T.Helper()
	story := p.degraded(worker.Name)
	p.tell(story.Timeline)
	p.T.Logf("%s", story.Proof.Text)
	require.True(p.T, story.Proof.Balanced, "%+v", story.Proof)
	require.Positive(p.T, story.Proof.Spilled.Commits)
	require.Equal(p.T, story.Proof.Spilled, story.Proof.Drained)
	require.Equal(p.T, report.LevelNormal, story.Timeline[len(story.Timeline)-1].To)
	return story
}

// The journal comes to its hard limit before Redis is back. Intake stops, and goes on by itself.
func TestJournalAtItsLimit(t *testing.T) {
	t.Parallel()
	yaml, lines := rig.Flights(t, 60_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4, overflow)
	worker := w.journalWorker(t.TempDir(), "--wal-hard-limit", "1MiB")
	w.Ready(worker.Process)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/60)
	p.Reach(total / 20)
	owners := p.Owners()
	p.journalFills(worker, rdb)
	rdb.Start()
	feed.Finish()
	p.Reach(total)
	require.Equal(t, owners, p.Owners(), "a lane has changed its owner")
	p.journalIsProved(worker)
	p.Drain()
	p.RequireExact()
}

// The disk under the journal is full before Redis is back. Intake goes on when there is room again, and still without Redis.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root may mount a file system that is small")
	}
	dir := filepath.Join(t.TempDir(), "wal")
	require.NoError(t, os.Mkdir(dir, 0o755))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("no file system of its own for the WAL: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	yaml, lines := rig.Flights(t, 60_000)
	rdb := rig.StartRedis(t)
	w := newWorld(t, rig.Servers{Redis: rdb.Addr})
	p := w.newPipeline(yaml, 4, overflow)
	// Segments of 384 KiB: there is room for two, and the limit is far.
	worker := w.journalWorker(dir, "--wal-hard-limit", "1536KiB")
	w.Ready(worker.Process)
	p.Start()
	total := int64(len(lines))
	feed := p.Trickle(lines, len(lines)/60)
	p.Reach(total / 20)
	owners := p.Owners()
	p.journalFills(worker, rdb)

	before := worker.read(t)
	require.NoError(t, syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_REMOUNT, "size=64m"))
	began := time.Now()
	rig.Eventually(t, "intake goes on when the disk has room", patience, func() bool { return worker.read(t) > before })
	t.Logf("intake went on %v after the disk had room", time.Since(began))
	rdb.Start()
	feed.Finish()
	p.Reach(total)
	require.Equal(t, owners, p.Owners(), "a lane has changed its owner")
	p.journalIsProved(worker)
	p.Drain()
	p.RequireExact()
}
