package contract

import (
	"fmt"
	"time"

	"millrace/pipeline/report"
)

// AwaitRunningRequest waits until the pipeline runs: every lane has been acquired and has committed under the desired state.
type AwaitRunningRequest struct {
	TimeoutSeconds int      `json:"timeout_seconds,omitempty"` // 0 means DefaultRunningTimeout
	Unknown        []string `json:"-"`
	Wrong          string   `json:"-"`
}

// Bounds of a wait for a pipeline to run.
const (
	DefaultRunningTimeout = time.Minute
	MaxRunningTimeout     = time.Hour
)

// UnmarshalJSON collects unknown fields for the validator.
func (r *AwaitRunningRequest) UnmarshalJSON(data []byte) error {
	type plain AwaitRunningRequest
	return decodeKnown(data, (*plain)(r), wants{"timeout_seconds": wantRunningTimeout()}, &r.Unknown, &r.Wrong)
}

// Validate refuses unknown fields by name, and times that make no sense.
func (r AwaitRunningRequest) Validate() error {
	if err := refuse(UpdateAwaitRunning, r.Wrong, r.Unknown, "timeout_seconds"); err != nil {
		return err
	}
	if r.TimeoutSeconds < 0 || r.TimeoutSeconds > int(MaxRunningTimeout.Seconds()) {
		return fmt.Errorf("%s: timeout_seconds is %d; want %s", UpdateAwaitRunning, r.TimeoutSeconds, wantRunningTimeout())
	}
	return nil
}

func wantRunningTimeout() string {
	return fmt.Sprintf("whole seconds, 0 (the default, %s) to %d", DefaultRunningTimeout, int(MaxRunningTimeout.Seconds()))
}

// Timeout is how long to wait.
func (r AwaitRunningRequest) Timeout() time.Duration {
	if r.TimeoutSeconds == 0 {
		return DefaultRunningTimeout
	}
	return time.Duration(r.TimeoutSeconds) * time.Second
}

// Running answers an AwaitRunningRequest.
type Running struct {
	Pipeline   string               `json:"pipeline"`
	State      string               `json:"state"`
	At         time.Time            `json:"at"`
	Generation int64                `json:"generation"`
	Replicas   []ChildState         `json:"replicas"`
	Lanes      []report.LaneReceipt `json:"lanes,omitempty"`   // that run, with the offset committed then
	Missing    []report.LaneMissing `json:"missing,omitempty"` // that do not, and why
	Begun      []LaneStart          `json:"begun,omitempty"`   // where the lanes began, of a start that said so
	Warnings   []string             `json:"warnings,omitempty"`
}

// Asking are the lanes that are parked until somebody decides.
func (r *Running) Asking() (asking []report.LaneMissing) {
	for _, m := range r.Missing {
		if m.Asks {
			asking = append(asking, m)
		}
	}
	return asking
}
