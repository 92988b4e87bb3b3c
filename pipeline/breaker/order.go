package breaker

import (
	"time"

	"github.com/sony/gobreaker/v2"

	"millrace/pipeline/report"
)

// order is the override in force.
type order struct {
	override report.Override
	by       string
	reason   string
	at       time.Time
}

// opens reports whether lanes are to be kept off the dependency when the breaker says state.
func (o *order) opens(state gobreaker.State) bool {
	switch o.override {
	case report.OverrideOpen:
		return true
	case report.OverrideClose:
		return false
	}
	return state != gobreaker.StateClosed
}

func (o *order) cause() cause {
	text := "override " + string(o.override)
	if o.override == report.OverrideNone {
		text = "override lifted"
	}
	if o.by != "" {
		text += " by " + o.by
	}
	if o.reason != "" {
		text += ": " + o.reason
	}
	return cause{text: text}
}

// Override orders a level to be held, the breaker to count as open or as closed, or, with report.OverrideNone, the machine to
// decide again. by and reason are for people. The order acts before Override returns and is recorded as a change; the order that
// is in force already changes nothing, and one that does not exist is an error.
//
// The breaker goes on beneath: it is probed, opens and closes as always, and its state counts again when the order is lifted.
// No order makes room in a journal: under open and close the level still follows it, and under hold a full one still blocks.
func (m *Machine) Override(o report.Override, by, reason string) error {
	o, err := report.ParseOverride(string(o))
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if o == m.order.override {
		return nil
	}
	m.order = order{override: o, by: by, reason: reason, at: time.Now()}
	given := m.order.cause()
	m.settle(&given)
	return nil
}
