package breaker

import (
	"time"

	"github.com/sony/gobreaker/v2"
)

// order is the override in force.
type order struct {
	override Override
	by       string
	reason   string
	at       time.Time
}

// opens tells whether lanes are to be kept off the dependency when the breaker says state.
func (o *order) opens(state gobreaker.State) bool {
	switch o.override {
	case ForceOpen:
		return true
	case ForceClose:
		return false
	}
	return state != gobreaker.StateClosed
}

func (o *order) cause() cause {
	text := "override " + string(o.override)
	if o.override == Automatic {
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

// Override orders a level to be held, the breaker to count as open or as closed, or, with Automatic, the machine to decide
// again. by and reason are for people. It acts before it returns and is recorded as a change; the order that is in force
// already changes nothing, and one that does not exist is refused with a line in the log.
//
// The breaker goes on beneath: it is probed, opens and closes as always, and its state counts again when the order is lifted.
// No order makes room in a journal: under open and close the level still follows it, and under hold a full one still blocks.
func (m *Machine) Override(o Override, by, reason string) {
	o, err := ParseOverride(string(o))
	if err != nil {
		m.cfg.Log.Error("override refused", "dependency", m.cfg.Dependency, "by", by, "error", err)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if o == m.order.override {
		return
	}
	m.order = order{override: o, by: by, reason: reason, at: time.Now()}
	given := m.order.cause()
	m.settle(&given)
}
