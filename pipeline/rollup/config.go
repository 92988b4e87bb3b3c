package rollup

import (
	"context"
	"errors"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/spec"
)

// Contents reads what was published; *publish.Contents is one.
type Contents interface {
	Read(ctx context.Context, row *ledger.Row) ([]ledger.Content, error)
	ReadStates(ctx context.Context, row *ledger.Row) ([]ledger.Content, error)
	EachState(ctx context.Context, row *ledger.Row, fn func(key, state []byte) error) error
}

// Desk publishes in the slots of the pipeline; its methods are those of publish.Held in the slot of the window, and show
// what was published.
type Desk interface {
	Correct(ctx context.Context, c *publish.Correction) (publish.Corrected, error)
	AmendLatest(ctx context.Context, id ledger.WindowID, revision int, checksum string,
		change func(*ledger.Row) bool) (publish.Corrected, error)
}

// Config says what is rolled up and how. All fields are required but those that say what they are without.
type Config struct {
	Spec     *spec.Spec
	Slots    int // of the ledger
	Log      ledger.Log
	Contents Contents
	Desk     Desk
	Topics   publish.TopicIDs
	Late     LateReader       // nil: how many events were late is not known
	By       string           // in ledger rows, for people
	Build    string           // in ledger rows; "" when it is not known
	Now      func() time.Time // for retention; what is published never depends on it
	Book     func(Outcome)    // told of every window that was published, or that cannot be; may be nil

	// Alone reports whether an error is about one window alone, and no reason to leave the others. nil: no error is.
	Alone func(error) bool
}

// Outcome is what became of one window that was not what its children are.
type Outcome struct {
	Window   ledger.WindowID
	Verdict  publish.Verdict // "" when it failed
	Revision int             // the window's latest, 0 without one
	Problem  string          // why it failed
}

// Validate names every option that is missing.
func (c *Config) Validate() error {
	var errs []error
	for _, o := range []struct {
		name string
		ok   bool
	}{
		{"Spec", c.Spec != nil}, {"Slots", c.Slots > 0}, {"Log", c.Log != nil}, {"Contents", c.Contents != nil},
		{"Desk", c.Desk != nil}, {"Now", c.Now != nil},
	} {
		if !o.ok {
			errs = append(errs, errors.New("rollup: "+o.name+" is missing"))
		}
	}
	return errors.Join(errs...)
}
