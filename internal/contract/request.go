package contract

import (
	"fmt"
	"time"

	"millrace/pipeline/spec"
)

// FlushRequest publishes what every open window holds now, without closing it.
type FlushRequest struct {
	Reason           string   `json:"reason,omitempty"`
	ExpectGeneration *int64   `json:"expect_generation,omitempty"` // refuse when the desired state has another one
	Unknown          []string `json:"-"`
	Wrong            string   `json:"-"`
}

// PauseRequest stops reading until a resume. It holds also while Temporal is away.
type PauseRequest struct {
	Reason           string   `json:"reason,omitempty"`
	ExpectGeneration *int64   `json:"expect_generation,omitempty"` // refuse when the desired state has another one
	Unknown          []string `json:"-"`
	Wrong            string   `json:"-"`
}

// ResumeRequest ends a pause.
type ResumeRequest struct {
	Reason           string   `json:"reason,omitempty"`
	ExpectGeneration *int64   `json:"expect_generation,omitempty"` // refuse when the desired state has another one
	Unknown          []string `json:"-"`
	Wrong            string   `json:"-"`
}

// ScaleRequest sets the number of hot paths.
type ScaleRequest struct {
	Replicas         int      `json:"replicas"`
	Reason           string   `json:"reason,omitempty"`
	ExpectGeneration *int64   `json:"expect_generation,omitempty"` // refuse when the desired state has another one
	Unknown          []string `json:"-"`
	Wrong            string   `json:"-"`
}

// StopRequest ends the pipeline. With Drain everything that was in Kafka when the request was accepted is read, and everything that
// is open is published with reason drain; when that cannot be done the pipeline goes on and the receipt says why.
type StopRequest struct {
	Drain            bool     `json:"drain,omitempty"`
	TimeoutSeconds   int      `json:"timeout_seconds,omitempty"` // of the drain; 0 means DefaultDrainTimeout
	Reason           string   `json:"reason,omitempty"`
	ExpectGeneration *int64   `json:"expect_generation,omitempty"` // refuse when the desired state has another one
	Unknown          []string `json:"-"`
	Wrong            string   `json:"-"`
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *FlushRequest) UnmarshalJSON(data []byte) error {
	type plain FlushRequest
	return decodeKnown(data, (*plain)(r), wants{"expect_generation": wantGeneration}, &r.Unknown, &r.Wrong)
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *PauseRequest) UnmarshalJSON(data []byte) error {
	type plain PauseRequest
	return decodeKnown(data, (*plain)(r), wants{"expect_generation": wantGeneration}, &r.Unknown, &r.Wrong)
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *ResumeRequest) UnmarshalJSON(data []byte) error {
	type plain ResumeRequest
	return decodeKnown(data, (*plain)(r), wants{"expect_generation": wantGeneration}, &r.Unknown, &r.Wrong)
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *ScaleRequest) UnmarshalJSON(data []byte) error {
	type plain ScaleRequest
	want := wants{"replicas": fmt.Sprintf("a whole number, 1 to %d", MaxReplicas), "expect_generation": wantGeneration}
	return decodeKnown(data, (*plain)(r), want, &r.Unknown, &r.Wrong)
}

// UnmarshalJSON collects unknown fields for the validator.
func (r *StopRequest) UnmarshalJSON(data []byte) error {
	type plain StopRequest
	want := wants{"timeout_seconds": wantDrainTimeout(), "expect_generation": wantGeneration}
	return decodeKnown(data, (*plain)(r), want, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name.
func (r FlushRequest) Validate() error {
	return refuse(UpdateFlush, r.Wrong, r.Unknown, "reason, expect_generation")
}

// Validate refuses unknown fields by name.
func (r PauseRequest) Validate() error {
	return refuse(UpdatePause, r.Wrong, r.Unknown, "reason, expect_generation")
}

// Validate refuses unknown fields by name.
func (r ResumeRequest) Validate() error {
	return refuse(UpdateResume, r.Wrong, r.Unknown, "reason, expect_generation")
}

// Validate refuses unknown fields by name and numbers of replicas that make no sense.
func (r ScaleRequest) Validate() error {
	if err := refuse(UpdateScale, r.Wrong, r.Unknown, "replicas, reason, expect_generation"); err != nil {
		return err
	}
	if r.Replicas < 1 || r.Replicas > MaxReplicas {
		return fmt.Errorf("scale: replicas is %d; want 1 to %d", r.Replicas, MaxReplicas)
	}
	return nil
}

// Validate refuses unknown fields by name and a timeout without a drain.
func (r StopRequest) Validate() error {
	if err := refuse(UpdateStop, r.Wrong, r.Unknown, "drain, timeout_seconds, reason, expect_generation"); err != nil {
		return err
	}
	if r.TimeoutSeconds < 0 || r.TimeoutSeconds > int(MaxDrainTimeout.Seconds()) {
		return fmt.Errorf("stop: timeout_seconds is %d; want %s", r.TimeoutSeconds, wantDrainTimeout())
	}
	if !r.Drain && r.TimeoutSeconds != 0 {
		return fmt.Errorf("stop: timeout_seconds is only for a drain; add \"drain\": true or leave it out")
	}
	return nil
}

const wantGeneration = "a whole number, the generation that the desired state should have now"

func wantDrainTimeout() string {
	return fmt.Sprintf("whole seconds, 0 (the default, %s) to %d", spec.Duration(DefaultDrainTimeout), int(MaxDrainTimeout.Seconds()))
}

// DrainTimeout is how long a drain may take.
func (r StopRequest) DrainTimeout() time.Duration {
	if r.TimeoutSeconds == 0 {
		return DefaultDrainTimeout
	}
	return time.Duration(r.TimeoutSeconds) * time.Second
}
