package app

import (
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
		pipelines[name] = contract.NewStanding(name, contract.StateRunning, 0, conditions, now)
	}
	return wholeProcess(p.ready(), pipelines), pipelines
}

// wholeProcess sums up a process whose pipelines stand like that, and which is not ready for the given reason, nil when it is. The
// line speaks of the first pipeline that is not well; of one that is well but has something to say where all are.
func wholeProcess(notReady error, pipelines map[string]contract.Standing) contract.Standing {
	var unwell, told []string
	for _, name := range slices.Sorted(maps.Keys(pipelines)) {
		switch s := pipelines[name]; {
		case !s.Healthy:
			unwell = append(unwell, name+": "+s.Line)
		case len(s.Conditions) > 0:
			told = append(told, name+": "+s.Line)
		}
	}
	var whole []contract.Condition
	if notReady != nil {
		why := notReady.Error()
		unwell = append(unwell, why)
		if why != whyStarting && why != whyStopping {
			whole = []contract.Condition{{Kind: contract.ConditionTemporalAway, Reason: why}}
		}
	}
	switch {
	case len(unwell) > 0:
		return contract.Standing{Line: firstOf(unwell), Conditions: whole}
	case len(told) > 0:
		return contract.Standing{Line: "ok; " + firstOf(told), Healthy: true}
	}
	return contract.Standing{Line: "ok", Healthy: true}
}

// firstOf is the first of some texts, with the number of the others.
func firstOf(texts []string) string {
	if others := len(texts) - 1; others > 0 {
		return fmt.Sprintf("%s; and %d more", texts[0], others)
	}
	return texts[0]
}

// conditions are those of every pipeline that has a hot path or a closer at work here; none for one that is well.
func (p *process) conditions() map[string][]contract.Condition {
	all := make(map[string][]contract.Condition)
	for _, h := range p.engines.sorted() {
		s := h.Status()
		all[s.Pipeline] = append(all[s.Pipeline], contract.EngineConditions(s, h.spills, time.Now())...)
	}
	for name, details := range p.closers.hindered() {
		all[name] = append(all[name], contract.CloserConditions(name, details, time.Now())...)
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
		maps.Copy(counts[name], contract.CountKinds(conditions))
	}
	return counts
}
