package app

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/internal/contract"
)

// health is how the pipelines of this process are, by name, and the process as a whole: what /health answers. It sees what runs
// in the process; `millrace status` sees the whole pipeline. Safe for concurrent use.
func (p *process) health() (contract.Standing, map[string]contract.Standing) {
	now := time.Now()
	pipelines := make(map[string]contract.Standing)
	for name, conditions := range p.conditions() {
		pipelines[name] = contract.NewStanding(contract.StateRunning, 0, conditions, now)
	}
	whole := contract.Standing{Line: "ok", Healthy: true}
	if err := p.ready(); err != nil {
		whole = contract.NewStanding(contract.StateRunning, 0, []contract.Condition{{Kind: contract.ConditionTemporalAway, Reason: err.Error()}}, now)
	}
	for _, name := range slices.SortedFunc(maps.Keys(pipelines), cmp.Compare) {
		if s := pipelines[name]; !s.Healthy && whole.Healthy {
			whole = contract.Standing{Line: fmt.Sprintf("%s: %s", name, s.Line)}
		}
	}
	return whole, pipelines
}

// conditions are those of every pipeline that has a hot path or a closer at work here; none for one that is well.
func (p *process) conditions() map[string][]contract.Condition {
	all := make(map[string][]contract.Condition)
	for _, h := range p.engines.sorted() {
		s := h.Status()
		all[s.Pipeline] = append(all[s.Pipeline], contract.EngineConditions(s, time.Now())...)
	}
	for name, details := range p.closers.hindered() {
		all[name] = append(all[name], contract.CloserConditions(name, details)...)
	}
	return all
}

// conditionCounts counts conditions by pipeline and kind, for the metrics. Every kind that a process can see is there, also at 0.
func (p *process) conditionCounts() map[string]map[string]int {
	counts := make(map[string]map[string]int)
	for name, conditions := range p.conditions() {
		counts[name] = make(map[string]int)
		for _, kind := range contract.ProcessConditions() {
			counts[name][kind] = 0
		}
		for _, c := range conditions {
			counts[name][c.Kind]++
		}
	}
	return counts
}
