package contract

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Fingerprint identifies the input of a request: requests are the same when their fields are, however they were written.
func Fingerprint(request any) string {
	data, err := json.Marshal(request)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:8])
}

// Past is a request that was answered, or is being carried out.
type Past struct {
	RequestID string `json:"request_id"`
	Update    string `json:"update,omitempty"`
	Input     string `json:"input,omitempty"` // its Fingerprint; empty in receipts of releases that kept none
}

// Repeats returns nil when a request with the same id is the same one, and otherwise says that the id is taken.
func (p Past) Repeats(update, input string) error {
	switch {
	case p.Update != "" && p.Update != update:
		return fmt.Errorf("%s: request id %q was used for %s; give another id, or none", update, p.RequestID, p.Update)
	case p.Input != "" && input != "" && p.Input != input:
		return fmt.Errorf("%s: request id %q was used for another %s, with other input; give another id, or none",
			update, p.RequestID, update)
	}
	return nil
}

// ChangedSince says why a command that expects a generation is refused: somebody has commanded something since. last is the
// latest receipt, nil without one.
func ChangedSince(pipeline, update string, expected, present int64, last *Receipt) error {
	text := fmt.Sprintf("%s: expect_generation is %d, and the desired state has generation %d", update, expected, present)
	if last != nil {
		text += fmt.Sprintf(": %s, request %q at %s, gave it %d", last.Update, last.RequestID, last.At.UTC().Format(time.RFC3339),
			last.Generation)
		if last.Reason != "" {
			text += fmt.Sprintf(" (%s)", last.Reason)
		}
	}
	return fmt.Errorf("%s; look with `millrace status %s`, then expect %d or leave it out", text, pipeline, present)
}
