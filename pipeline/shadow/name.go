package shadow

import (
	"encoding/json"
	"fmt"
	"regexp"

	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// validID is what an id of a replay may be: it stands in keys and in patterns that find them.
var validID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,100}$`)

// CheckID says what is wrong with the id of a replay, nil when nothing is.
func CheckID(id string) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("replay id %q is not valid; want 1 to 100 letters, digits and . _ : -", id)
	}
	return nil
}

// endlessLateness is the allowed lateness under which no event is late, and no window ends before its log does.
const endlessLateness = spec.Duration(100 * 365 * 24 * 3600 * 1e9)

// specOf is the spec that a shadow's lanes are compiled from: the plan's, in a namespace of its own, and without the topics
// that only the pipeline itself writes to.
func specOf(p *plan.Plan) (*spec.Spec, error) {
	s, err := spec.Parse("plan of "+p.Pipeline+"@"+p.ID, p.Spec)
	if err != nil {
		return nil, err
	}
	s.Name = shadowID(p).Namespace()
	s.Results, s.Late, s.DeadLetter = spec.Results{}, spec.Sink{}, spec.Sink{}
	if p.Lateness == plan.None {
		s.AllowedLateness = endlessLateness
	}
	return s, nil
}

func shadowID(p *plan.Plan) store.ShadowID { return store.ShadowID{Pipeline: p.Pipeline, ID: p.ID} }

// laneID names a lane of the shadow.
func laneID(p *plan.Plan, l *plan.Lane) store.LaneID {
	return store.LaneID{Pipeline: shadowID(p).Namespace(), Topic: l.Topic, Partition: l.Partition}
}

func encodePlan(p *plan.Plan) ([]byte, error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("plan of %s@%s: %w", p.Pipeline, p.ID, err)
	}
	return b, nil
}

func parsePlan(b []byte) (*plan.Plan, error) {
	p := new(plan.Plan)
	if err := json.Unmarshal(b, p); err != nil {
		return nil, fmt.Errorf("plan of a shadow: %w", err)
	}
	if p.Version > plan.Version {
		return nil, fmt.Errorf("plan of %s@%s has version %d, this version of millrace reads up to %d; update millrace",
			p.Pipeline, p.ID, p.Version, plan.Version)
	}
	return p, nil
}
