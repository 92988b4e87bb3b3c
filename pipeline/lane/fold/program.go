package fold

import (
	"fmt"

	"millrace/pipeline/agg"
	"millrace/pipeline/event"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// Program is a spec compiled for one lane: decoders, slice plan and aggregate layout. It holds scratch memory of its
// own, so it belongs to one goroutine.
type Program struct {
	Spec    *spec.Spec
	StateID string

	decoders [groupSize]*event.Decoder // an event lives in its decoder's memory
	plan     *window.Plan
	layout   *agg.Layout
	limits   Limits
}

// Compile builds a lane's program from a validated spec.
func Compile(s *spec.Spec) (*Program, error) {
	p := &Program{Spec: s, StateID: s.StateID(), limits: DefaultLimits}
	var err error
	for i := range p.decoders {
		if p.decoders[i], err = event.NewDecoder(s); err != nil {
			return nil, fmt.Errorf("compile event mapping of %q: %w", s.Name, err)
		}
	}
	if p.plan, err = window.NewPlan(s); err != nil {
		return nil, fmt.Errorf("compile windows of %q: %w", s.Name, err)
	}
	if p.layout, err = agg.NewLayout(s); err != nil {
		return nil, fmt.Errorf("compile aggregates of %q: %w", s.Name, err)
	}
	return p, nil
}

// Limit sets other limits for pages than those that are made for Redis: what stands in pages does not depend on them.
func (p *Program) Limit(l Limits) { p.limits = l }

// sliceKey finds a slice generation in the lane's memory. The width is the same for all slices of a program.
type sliceKey struct {
	start int64
	gen   int32
}

// slice is the state of one slice generation.
type slice struct {
	stat    store.SliceStat
	table   *agg.Table // without rows while the slice rests
	resting *resting   // nil: it does not
	changed bool       // stat moved since the last snapshot
	beneath bool       // fields of store.FieldFormat lie beneath the pages
	paging
}
