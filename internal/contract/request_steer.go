package contract

import (
	"errors"
	"fmt"
)

// DecideRequest chooses a way out of a lane's incident, or out of those of all lanes that wait for a decision.
type DecideRequest struct {
	Topic     string   `json:"topic"`
	Partition *int32   `json:"partition"`
	All       bool     `json:"all,omitempty"` // instead of topic and partition
	Choice    string   `json:"choice"`
	Reason    string   `json:"reason,omitempty"`
	Unknown   []string `json:"-"`
	Wrong     string   `json:"-"`
}

// LevelRequest asks for an override of a dependency's level, or for the end of one.
type LevelRequest struct {
	Reason           string   `json:"reason,omitempty"`
	ExpectGeneration *int64   `json:"expect_generation,omitempty"` // refuse when the overrides of the degradation have another one
	Unknown          []string `json:"-"`
	Wrong            string   `json:"-"`
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *DecideRequest) UnmarshalJSON(data []byte) error {
	type plain DecideRequest
	return decodeKnown(data, (*plain)(r), wants{"partition": "a whole number, from 0"}, &r.Unknown, &r.Wrong)
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *LevelRequest) UnmarshalJSON(data []byte) error {
	type plain LevelRequest
	return decodeKnown(data, (*plain)(r), wants{"expect_generation": wantGeneration}, &r.Unknown, &r.Wrong)
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *WALDecideRequest) UnmarshalJSON(data []byte) error {
	type plain WALDecideRequest
	return decodeKnown(data, (*plain)(r), nil, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name and missing ones.
func (r DecideRequest) Validate() error {
	if err := refuse(UpdateDecide, r.Wrong, r.Unknown, "topic, partition, all, choice, reason"); err != nil {
		return err
	}
	if r.All {
		if r.Topic != "" || r.Partition != nil || r.Choice == "" {
			return errors.New(`decide: all is for every lane that waits for a decision: want {"all":true,"choice":"..."}, ` +
				`without topic and partition`)
		}
		return longReason(UpdateDecide, r.Reason)
	}
	if r.Partition != nil && *r.Partition < 0 {
		return fmt.Errorf("decide: partition is %d; want a whole number, from 0", *r.Partition)
	}
	if r.Topic == "" || r.Partition == nil || r.Choice == "" {
		return errors.New(`decide: topic, partition and choice are needed, as in {"topic":"orders","partition":3,"choice":"..."}, ` +
			`or {"all":true,"choice":"..."}`)
	}
	return longReason(UpdateDecide, r.Reason)
}

// Validate refuses unknown fields by name. update is the one it came with.
func (r LevelRequest) Validate(update string) error {
	if err := refuse(update, r.Wrong, r.Unknown, "reason, expect_generation"); err != nil {
		return err
	}
	return longReason(update, r.Reason)
}

// Validate refuses unknown fields by name and unknown choices.
func (r WALDecideRequest) Validate() error {
	if err := refuse(UpdateDecide, r.Wrong, r.Unknown, "choice, reason"); err != nil {
		return err
	}
	if r.Choice != ChoiceQuarantine && r.Choice != ChoiceAbort {
		return fmt.Errorf("decide: choice is %q; want %q (set what cannot be read aside and replay the rest) or %q (leave the "+
			"journal as it is)",
			r.Choice, ChoiceQuarantine, ChoiceAbort)
	}
	return longReason(UpdateDecide, r.Reason)
}

func longReason(update, reason string) error {
	if len(reason) > MaxText {
		return fmt.Errorf("%s: reason has %d bytes; at most %d are kept", update, len(reason), MaxText)
	}
	return nil
}
