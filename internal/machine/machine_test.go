package machine

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLook(t *testing.T) {
	const meminfo = "MemTotal:       16384 kB\nMemFree:         1 kB\n"
	tests := []struct {
		name  string
		files map[string]string
		limit int64
		quota float64
		nodes []Node
	}{
		{"nothing is known", nil, 0, 0, nil},
		{"no limits", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/cpu.max": "max 100000"}, 0, 0, nil},
		{"container", map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "8388608\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
			8 << 20, 1.5, nil},
		{"a parent is tighter", map[string]string{"proc/self/cgroup": "0::/pod/worker\n", "sys/fs/cgroup/pod/worker/memory.max": "max",
			"sys/fs/cgroup/pod/memory.max": "4194304", "sys/fs/cgroup/memory.max": "8388608"}, 4 << 20, 0, nil},
		{"first version", map[string]string{"proc/self/cgroup": "4:memory:/w\n3:cpu,cpuacct:/w\n", "sys/fs/cgroup/memory/w/memory.limit_in_bytes": "2097152",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712", "sys/fs/cgroup/cpu/w/cpu.cfs_quota_us": "200000",
			"sys/fs/cgroup/cpu/w/cpu.cfs_period_us": "100000"}, 2 << 20, 2, nil},
		{"nodes", map[string]string{"sys/devices/system/node/node1/cpulist": "8-15\n", "sys/devices/system/node/node0/cpulist": "0-7\n",
			"sys/devices/system/node/node2/cpulist": "\n", "sys/devices/system/node/possible": "0-2"}, 0, 0, []Node{{0, "0-7"}, {1, "8-15"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if tt.files == nil {
				tt.files = map[string]string{}
			} else {
				tt.files["proc/meminfo"] = meminfo
			}
			for name, text := range tt.files {
				at := filepath.Join(root, name)
				require.NoError(t, os.MkdirAll(filepath.Dir(at), 0o755))
				require.NoError(t, os.WriteFile(at, []byte(text), 0o600))
			}
			m := Look(root)
			require.Equal(t, tt.limit, m.MemoryLimit)
			require.Equal(t, tt.quota, m.Quota)
			require.Equal(t, tt.nodes, m.Nodes)
			if len(tt.files) > 0 && tt.limit == 0 {
				require.Equal(t, int64(16<<20), m.Limit())
			}
		})
	}
}
