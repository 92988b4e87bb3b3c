// Package machine says what a process may have: memory, processors and NUMA nodes, as Linux and its control groups say. What cannot
// be read is not limited.
package machine

import (
	"cmp"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// Machine is what this process may have.
type Machine struct {
	Processors  int     `json:"processors"`             // that the process may run on
	Quota       float64 `json:"quota,omitempty"`        // processors' worth of time that its control group may use; 0 without a quota
	Memory      int64   `json:"memory"`                 // bytes of the machine
	MemoryLimit int64   `json:"memory_limit,omitempty"` // bytes of its control group; 0 without a limit
	Nodes       []Node  `json:"nodes,omitempty"`        // NUMA nodes with processors
}

// Node is a NUMA node.
type Node struct {
	Number int    `json:"node"`
	CPUs   string `json:"cpus"` // as in 0-15,32-47
}

// Look reads what root, / but in tests, says.
func Look(root string) Machine {
	m := Machine{Processors: runtime.NumCPU(), Memory: memory(root)}
	m.MemoryLimit, m.Quota = groupLimits(root)
	if m.MemoryLimit >= m.Memory && m.Memory > 0 { // how the first version of control groups says "none"
		m.MemoryLimit = 0
	}
	m.Nodes = nodes(root)
	return m
}

// Limit is the bytes that the process may have: its group's, or else the machine's; 0 when neither is known.
func (m Machine) Limit() int64 { return cmp.Or(m.MemoryLimit, m.Memory) }

func read(root, name string) string {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func memory(root string) int64 {
	for line := range strings.Lines(read(root, "proc/meminfo")) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "MemTotal:" {
			kib, _ := strconv.ParseInt(f[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// groupLimits finds the tightest limits of the process's control group and those above it.
func groupLimits(root string) (memory int64, quota float64) {
	const mount = "sys/fs/cgroup"
	tighter := func(bytes int64, cpus float64) {
		if bytes > 0 && (memory == 0 || bytes < memory) {
			memory = bytes
		}
		if cpus > 0 && (quota == 0 || cpus < quota) {
			quota = cpus
		}
	}
	for line := range strings.Lines(read(root, "proc/self/cgroup")) {
		controllers, group, _ := strings.Cut(strings.TrimSpace(line)[strings.IndexByte(line, ':')+1:], ":")
		for at := path.Clean("/" + group); ; at = path.Dir(at) {
			switch {
			case controllers == "":
				bytes, _ := strconv.ParseInt(read(root, mount+at+"/memory.max"), 10, 64)
				tighter(bytes, share(read(root, mount+at+"/cpu.max")))
			case slices.Contains(strings.Split(controllers, ","), "memory"):
				bytes, _ := strconv.ParseInt(read(root, mount+"/memory"+at+"/memory.limit_in_bytes"), 10, 64)
				tighter(bytes, 0)
			case slices.Contains(strings.Split(controllers, ","), "cpu"):
				tighter(0, share(read(root, mount+"/cpu"+at+"/cpu.cfs_quota_us")+" "+read(root, mount+"/cpu"+at+"/cpu.cfs_period_us")))
			}
			if at == "/" {
				break
			}
		}
	}
	return memory, quota
}

// share is the processors that "quota period" allows.
func share(text string) float64 {
	f := strings.Fields(text)
	if len(f) != 2 {
		return 0
	}
	quota, err := strconv.ParseFloat(f[0], 64)
	period, perr := strconv.ParseFloat(f[1], 64)
	if err != nil || perr != nil || quota <= 0 || period <= 0 {
		return 0
	}
	return quota / period
}

func nodes(root string) []Node {
	const dir = "sys/devices/system/node"
	entries, _ := os.ReadDir(filepath.Join(root, dir))
	var all []Node
	for _, e := range entries {
		number, err := strconv.Atoi(strings.TrimPrefix(e.Name(), "node"))
		if err != nil || !strings.HasPrefix(e.Name(), "node") {
			continue
		}
		if cpus := read(root, path.Join(dir, e.Name(), "cpulist")); cpus != "" { // a node of memory alone is not bound to
			all = append(all, Node{number, cpus})
		}
	}
	slices.SortFunc(all, func(a, b Node) int { return cmp.Compare(a.Number, b.Number) })
	return all
}
