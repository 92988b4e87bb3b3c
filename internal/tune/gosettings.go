package tune

import (
	"fmt"
	"math"
	"strings"
)

// adviseGo recommends what the Go runtime goes by, and where a worker is bound to.
func adviseGo(m *Measured, now Now) []Advice {
	limit, why := MemoryLimit(m.Machine.MemoryLimit, now.MemoryLimit, 0)
	advised := "none"
	if limit != math.MaxInt64 {
		advised = Bytes(limit)
	}
	out := []Advice{{"GOMEMLIMIT", now.GoLimit, advised, why + "; the worker sets it by itself, and follows its pipelines",
		"nothing to set; GOMEMLIMIT overrides"}}
	gogc, why := advisedGOGC(limit, now)
	out = append(out, Advice{"GOGC", now.GOGC, gogc, why, "GOGC of the worker"}, adviseProcessors(m))
	return append(out, adviseNodes(m)...)
}

// live is what lives of lane.memory_limit and of the rest when a collection has ended.
func live(now Now) int64 { return now.MemoryLimit + baseMemory/2 }

// advisedGOGC lets the heap grow to the limit: the collector's work is live memory for each growth.
func advisedGOGC(limit int64, now Now) (string, string) {
	if limit == math.MaxInt64 {
		return "100", "nothing limits Go's memory: Go's default"
	}
	room := 100 * (float64(limit)/float64(live(now)) - 1)
	gogc := max(50, min(200, int(math.Round(room/10)*10)))
	return fmt.Sprint(gogc), fmt.Sprintf("%s of limit / %s live at lane.memory_limit - 1 = %.0f %% of growth, from 50 to 200; "+
		"lanes' tables hold no pointers, so little is scanned", Bytes(limit), Bytes(live(now)), room)
}

func adviseProcessors(m *Measured) Advice {
	a := Advice{"GOMAXPROCS", fmt.Sprint(m.Processes), fmt.Sprint(m.Machine.Processors), fmt.Sprintf("%d processors, no quota", m.Machine.Processors),
		"nothing to set: Go 1.25 and later follow the container's quota"}
	if q := m.Machine.Quota; q > 0 {
		n := min(m.Machine.Processors, max(2, int(math.Ceil(q))))
		a.Recommended, a.Why = fmt.Sprint(n), fmt.Sprintf("the control group's quota is %.3g of %d processors", q, m.Machine.Processors)
	}
	return a
}

func adviseNodes(m *Measured) []Advice {
	a := Advice{Option: "NUMA", Now: "not bound", Recommended: "not bound", Where: "how the worker is started"}
	switch nodes := m.Machine.Nodes; len(nodes) {
	case 0:
		a.Why = "/sys/devices/system/node names no node"
	case 1:
		a.Why = fmt.Sprintf("one node with processors %s: all memory is near", nodes[0].CPUs)
	default:
		var lines []string
		for _, n := range nodes {
			lines = append(lines, fmt.Sprintf("numactl --cpunodebind=%d --membind=%d bin/worker", n.Number, n.Number))
		}
		a.Recommended = strings.Join(lines, "; ")
		a.Why = fmt.Sprintf("%d nodes: a worker for each keeps the tables of its lanes in near memory", len(nodes))
	}
	return []Advice{a}
}
