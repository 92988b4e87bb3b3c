package cli

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"millrace/internal/connect"
	"millrace/pipeline/store"
)

// Parts of a run whose CPU is measured apart. Embedded servers are one process and therefore one part.
const (
	partEngine  = "engine"
	partRedis   = "redis"
	partKafka   = "kafka"
	partServers = "servers"
)

// cpuMeter reads the CPU time of this process and of the servers. Servers whose process is not known are left out.
type cpuMeter struct{ pids map[string]int }

// cpuTimes is user and system time by part.
type cpuTimes map[string]time.Duration

func (c cpuMeter) read() cpuTimes {
	t := cpuTimes{partEngine: cpuTime()}
	for part, pid := range c.pids {
		if spent, err := processCPU(pid); err == nil {
			t[part] = spent
		}
	}
	return t
}

// since returns the parts that are in both, less what they were before.
func (t cpuTimes) since(before cpuTimes) cpuTimes {
	spent := make(cpuTimes)
	for part, at := range t {
		if was, ok := before[part]; ok {
			spent[part] = at - was
		}
	}
	return spent
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// tick is the unit of times in /proc/PID/stat, whatever the kernel counts in.
const tick = 10 * time.Millisecond

// Fields of /proc/PID/stat, from the one behind the name.
const (
	statUser   = 11
	statSystem = 12
	statBegan  = 19
)

func processCPU(pid int) (time.Duration, error) {
	fields, err := processStat(pid)
	if err != nil {
		return 0, err
	}
	var ticks int64
	for _, i := range []int{statUser, statSystem} {
		n, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("CPU of process %d: %w", pid, err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// processStat returns the fields of /proc/PID/stat behind the name, which is in parentheses and may hold anything.
func processStat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) <= statBegan {
		return nil, fmt.Errorf("/proc/%d/stat has %d fields behind the name; want more than %d", pid, len(fields), statBegan)
	}
	return fields, nil
}

// envServersDir names the directory in which tools/servers.sh keeps its servers; serversDir is where it is otherwise, seen from the
// project's root.
const (
	envServersDir = "MILLRACE_SERVERS_DIR"
	serversDir    = ".servers"
)

// serverPids returns the processes of real servers: those that were named, or those that tools/servers.sh started and that listen
// where this program connects to.
func serverPids(named map[string]int, conn *connect.Options) (map[string]int, error) {
	for part, pid := range named {
		if part != partRedis && part != partKafka {
			return nil, usagef("--server-pids names %q; want %s=PID,%s=PID", part, partRedis, partKafka)
		}
		if _, err := processCPU(pid); err != nil {
			return nil, usagef("--server-pids: the process of %s cannot be read: %w", part, err)
		}
	}
	pids := maps.Clone(named)
	if pids == nil {
		pids = make(map[string]int)
	}
	dir := os.Getenv(envServersDir)
	if dir == "" {
		dir = serversDir
	}
	for part, addrs := range map[string][]string{partRedis: conn.Redis.Addrs, partKafka: conn.Kafka.Addrs} {
		if pid, ok := startedServer(filepath.Join(dir, part, "pid"), addrs); ok && pids[part] == 0 {
			pids[part] = pid
		}
	}
	return pids, nil
}

// startedServer reads a pid file of tools/servers.sh. It reports whether that very process still runs and is the only server.
func startedServer(path string, addrs []string) (pid int, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	var port, began string
	if _, err := fmt.Sscan(string(text), &pid, &port, &began); err != nil {
		return 0, false
	}
	if !slices.Equal(addrs, []string{net.JoinHostPort("127.0.0.1", port)}) {
		return 0, false
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(boot) < 8 {
		return 0, false
	}
	fields, err := processStat(pid)
	return pid, err == nil && began == string(boot[:8])+"-"+fields[statBegan]
}

// resetPeakMemory has the kernel forget the most memory that this process has had. It reports whether the kernel did.
func resetPeakMemory() bool {
	debug.FreeOSMemory() // what filling the topic left behind is not the engine's
	return os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o200) == nil
}

// peakMemory is the most memory that this process has had since resetPeakMemory, in bytes; nil when the kernel does not say.
func peakMemory() *int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return nil
	}
	_, rest, found := strings.Cut(string(text), "VmHWM:")
	var kib int64
	if _, err := fmt.Sscan(rest, &kib); !found || err != nil {
		return nil
	}
	bytes := kib << 10
	return &bytes
}

// redisMemoryEvery is how often Redis is asked for its memory.
const redisMemoryEvery = 250 * time.Millisecond

// redisMemory is the most memory that Redis has had since it is watched, in bytes; 0 when Redis does not say.
type redisMemory struct{ peak atomic.Int64 }

// watchRedisMemory asks Redis for its memory until ctx ends.
func watchRedisMemory(ctx context.Context, state *store.Store) *redisMemory {
	w := &redisMemory{}
	go func() {
		tick := time.NewTicker(redisMemoryEvery)
		defer tick.Stop()
		for {
			if m, err := state.ServerMemory(ctx); err == nil {
				w.peak.Store(max(w.peak.Load(), m.Used))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return w
}

// most is nil when Redis does not say.
func (w *redisMemory) most() *int64 {
	peak := w.peak.Load()
	if peak == 0 {
		return nil
	}
	return &peak
}
