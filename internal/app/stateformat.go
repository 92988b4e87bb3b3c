package app

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"millrace/internal/connect"
	"millrace/internal/contract"
	"millrace/pipeline/store"
)

// reads is the highest state format that a process reads. Releases before state pages say nothing and read fields alone.
func (m *member) reads() int { return cmp.Or(m.State, store.FieldFormat) }

// keepsFields says which process keeps the lanes of the fleet from a state in pages, "" when every process reads pages,
// this one included. A process that is silent counts until it is buried. One that did not read pages counts for
// contract.FormatSettles after it has gone, also with a process that has come meanwhile, even when those that told it go, too:
// it may just be starting again.
func (w *fleetWatch) keepsFields(now time.Time) string {
	if w.last.IsZero() || now.Sub(w.last) > ownGap {
		return "this worker hears nothing of its fleet from Redis"
	}
	var old, unread, settling []string
	for id, s := range w.known {
		switch {
		case s.version < 0:
			unread = append(unread, id)
		case s.body.reads() < store.PageFormat:
			old = append(old, fmt.Sprintf("worker %s reads state format %d, and pages are format %d",
				s.body.Worker, s.body.reads(), store.PageFormat))
		case s.body.Older && id != w.self:
			settling = append(settling, s.body.Worker)
			w.told[id] = now
		default:
			delete(w.told, id)
		}
	}
	maps.DeleteFunc(w.told, func(_ string, at time.Time) bool { return now.Sub(at) >= contract.FormatSettles })
	switch {
	case len(old) > 0:
		w.lastOld = now
		return slices.Min(old)
	case len(unread) > 0:
		return fmt.Sprintf("worker %s has not said yet which state formats it reads", slices.Min(unread))
	case w.settles(now):
		return fmt.Sprintf("a worker that did not read pages was there less than %s ago", contract.FormatSettles)
	case len(settling) > 0:
		return fmt.Sprintf("worker %s saw one that did not read pages less than %s ago",
			slices.Min(settling), contract.FormatSettles)
	case len(w.told) > 0:
		return fmt.Sprintf("a worker that has gone saw one that did not read pages less than %s before", contract.FormatSettles)
	}
	return ""
}

// settles reports whether this process itself has seen one that did not read pages, less than contract.FormatSettles ago.
func (w *fleetWatch) settles(now time.Time) bool {
	return !w.lastOld.IsZero() && now.Sub(w.lastOld) < contract.FormatSettles
}

// fleetFormat is what a presence has found out last about the state formats of its fleet. Any goroutine may ask.
type fleetFormat struct {
	why atomic.Pointer[string]
	log *slog.Logger
}

func newFleetFormat(log *slog.Logger) *fleetFormat {
	f := &fleetFormat{log: log}
	why := "this worker has heard nothing of its fleet yet"
	f.why.Store(&why)
	return f
}

// keepFields says why lanes whose entries are fields stay so, "" when they may turn to pages.
func (f *fleetFormat) keepFields() string { return *f.why.Load() }

// note takes what a beat has found out. Only the goroutine of the presence calls it.
func (f *fleetFormat) note(why string) {
	if why == f.keepFields() {
		return
	}
	f.why.Store(&why)
	if why == "" {
		f.log.Info("every worker of the fleet reads state pages")
		return
	}
	f.log.Info("the fleet does not read state pages throughout; lanes whose entries are fields stay so", "why", why)
}

// keepFields is what the lanes of this process ask before they turn to pages: the fleet, unless the setting decides.
func (p *process) keepFields() func() string {
	switch p.cfg.StateFormat {
	case connect.StatePages:
		return func() string { return "" }
	case connect.StateFields:
		why := fmt.Sprintf("the setting worker.state_format of worker %s is %s", p.cfg.Temporal.Worker, connect.StateFields)
		return func() string { return why }
	}
	return p.presence.format.keepFields
}
