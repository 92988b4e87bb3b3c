// Package tune recommends settings from measurements: each with the model behind its number. It measures nothing itself.
package tune

import (
	"fmt"
	"math"
)

// Parts of the memory that Go may use.
const (
	limitShare = 0.9       // of what the process may have; the rest is stacks of threads, the kernel's buffers and the pages of the log
	stateShare = 2         // the collector lets the heap grow while it works, and commits copy what is dirty
	baseMemory = 256 << 20 // clients, buffers, fetched batches, the workers of Temporal
)

// MemoryLimit is the limit that a worker sets for Go's memory, and how it comes about. allowed is what the process may have, 0 when
// nothing is known of a limit; states is lane.memory_limit of all hot paths of the process together, 0 for none; merged is
// worker.merge_cache, 0 where no windows overlap. The limit is math.MaxInt64 when there is nothing to go by.
func MemoryLimit(allowed, states, merged int64) (limit int64, why string) {
	byGroup := int64(limitShare * float64(allowed))
	byStates, and := stateShare*states+merged+baseMemory, ""
	if merged > 0 {
		and = fmt.Sprintf(" + %s of worker.merge_cache", Bytes(merged))
	}
	switch {
	case allowed > 0 && (states == 0 || byGroup <= byStates):
		return byGroup, fmt.Sprintf("%.0f %% of the %s that the control group allows", 100*limitShare, Bytes(allowed))
	case states > 0:
		return byStates, fmt.Sprintf("%d x %s of lane.memory_limit%s + %s", stateShare, Bytes(states), and, Bytes(baseMemory))
	}
	return math.MaxInt64, "nothing limits it"
}

// Bytes writes n as people do.
func Bytes(n int64) string {
	const units = "KMGT"
	if n < 1<<10 {
		return fmt.Sprintf("%dB", n)
	}
	v, unit := float64(n)/(1<<10), 0
	for v >= 1<<10 && unit < len(units)-1 {
		v, unit = v/(1<<10), unit+1
	}
	return fmt.Sprintf("%.4g%ciB", v, units[unit])
}
