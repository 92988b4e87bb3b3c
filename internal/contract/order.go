package contract

import (
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/report"
)

// DegradeRequest sets or lifts an override of a dependency's level on all workers of a pipeline.
type DegradeRequest struct {
	Override         report.Override `json:"override"`             // hold, open, close or auto
	Dependency       string          `json:"dependency,omitempty"` // default redis; of auto all of them
	Reason           string          `json:"reason,omitempty"`
	ExpectGeneration *int64          `json:"expect_generation,omitempty"` // refuse when the desired state has another one
	Unknown          []string        `json:"-"`
	Wrong            string          `json:"-"`
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *DegradeRequest) UnmarshalJSON(data []byte) error {
	type plain DegradeRequest
	return decodeKnown(data, (*plain)(r), wants{"expect_generation": wantGeneration}, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name, and overrides and dependencies that there are not.
func (r DegradeRequest) Validate() error {
	if err := refuse(UpdateDegrade, r.Wrong, r.Unknown, "override, dependency, reason, expect_generation"); err != nil {
		return err
	}
	if !slices.Contains([]report.Override{report.OverrideHold, report.OverrideOpen, report.OverrideClose, UpdateAuto}, r.Override) {
		return fmt.Errorf("degrade: override is %q; want %q, %q, %q or %q",
			r.Override, report.OverrideHold, report.OverrideOpen, report.OverrideClose, UpdateAuto)
	}
	if r.Dependency != "" && r.Dependency != report.DependencyRedis && r.Dependency != report.DependencyResults {
		return fmt.Errorf("degrade: dependency is %q; want %q or %q", r.Dependency, report.DependencyRedis, report.DependencyResults)
	}
	return longReason(UpdateDegrade, r.Reason)
}

// Ordered returns the orders in force after a request, by dependency. The input is not changed.
func (r DegradeRequest) Ordered(orders []report.LevelOrder, by string, at time.Time) []report.LevelOrder {
	dependency := r.Dependency
	if dependency == "" && r.Override != UpdateAuto {
		dependency = report.DependencyRedis
	}
	next := []report.LevelOrder{} // not nil, which would leave desired state as it is
	for _, o := range orders {
		if dependency != "" && o.Dependency != dependency {
			next = append(next, o)
		}
	}
	if r.Override != UpdateAuto {
		next = append(next, report.LevelOrder{Dependency: dependency, Override: r.Override, By: by, Reason: r.Reason, At: at})
	}
	return next
}

// Lifted returns the dependencies on which no override is to be left, also none of a single worker.
func (r DegradeRequest) Lifted() []string {
	switch {
	case r.Override != UpdateAuto:
		return nil
	case r.Dependency != "":
		return []string{r.Dependency}
	}
	return []string{report.DependencyRedis, report.DependencyResults}
}

// OrderConditions says which overrides are in force on all workers. What a hold means depends on the level that it holds, which the
// workers tell. An open keeps lanes off Redis only where they have a journal to go to.
func OrderConditions(pipeline string, journal bool, orders []report.LevelOrder) []Condition {
	var all []Condition
	for _, o := range orders {
		reason := string(o.Override) + " on all workers by " + o.By
		if o.Reason != "" {
			reason += ": " + o.Reason
		}
		kind := ConditionOverride
		if o.Override == report.OverrideOpen && (journal || o.Dependency == report.DependencyResults) {
			kind = ConditionClosingSuspended
		}
		all = append(all, Condition{
			Kind: kind, Subject: o.Dependency, Reason: reason, Since: o.At, Command: "millrace degrade auto " + pipeline,
		})
	}
	return all
}

// OrderLevelsInput gives a process the orders in force for a pipeline.
type OrderLevelsInput struct {
	Pipeline   string              `json:"pipeline"`
	Generation int64               `json:"generation"` // of the desired state: earlier ones do not count any more
	Orders     []report.LevelOrder `json:"orders,omitempty"`
	Lift       []string            `json:"lift,omitempty"` // dependencies of which overrides of this one process are lifted, too
}

// OrderedLevels is where the state machines of a process for a pipeline stand then.
type OrderedLevels struct {
	Levels []OrderedLevel `json:"levels,omitempty"`
}

// OrderedLevel is where one state machine stands after an order, or why that is not known.
type OrderedLevel struct {
	Worker     string          `json:"worker,omitempty"`
	Replica    int             `json:"replica"`
	Dependency string          `json:"dependency,omitempty"`
	Level      report.Level    `json:"level,omitempty"`
	Override   report.Override `json:"override,omitempty"`
	Problem    string          `json:"problem,omitempty"`
}
