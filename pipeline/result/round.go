package result

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/merge"
	"millrace/pipeline/parallel"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/stage"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
	"millrace/pipeline/traces"
	"millrace/pipeline/window"
)

// failure is a window that could not be closed. It is tried again after a number of rounds that doubles.
type failure struct {
	times int
	next  int64 // round
}

// maxPause is the longest pause between two tries of a failing window, in rounds.
const maxPause = 64

// lateRest is how many times as long as the late revisions of one round took the next ones wait. A large window that
// late events change all the time is published again at a pace that leaves the machine to the lanes.
const lateRest = 4

// Round takes one look at the lanes and does everything that is due: it publishes windows the watermark has passed and
// windows that late events changed, makes windows final, asks the lanes for seals and lets them drop. Windows are taken
// in the order of their deadlines, MaxPerRound of them at the most. An error means that the lanes could not be looked
// at; what goes wrong with a window is in the report, and the others go on. Call it about once a second: with nothing
// new it reads each lane's meta and slices and no entry.
func (c *Closer) Round(ctx context.Context) (RoundReport, error) {
	c.turn.Lock()
	defer c.turn.Unlock()
	c.round++
	ctx = traces.Quiet(ctx) // whoever asks for rounds does so for ever: windows with traced records alone have spans
	c.clock.Enter(stage.Look)
	defer c.clock.Enter(stage.Idle)
	v, err := c.begin(ctx)
	c.clock.Enter(stage.Rest)
	if err != nil {
		return RoundReport{}, err
	}
	c.showRows(ctx, v)
	refs := v.Open(c.plan)
	before := c.prev
	c.remember(v, refs)
	told := RoundReport{Round: report.Round{Waiting: c.waiting(v, refs)}, Open: len(refs)}
	due := c.due(v, refs)
	c.notePassed(v, before, due)
	told.Due = len(due)
	c.clock.Enter(stage.Merge)
	results, err := c.closeAll(ctx, v, due, "", 2, c.passed)
	c.clock.EnterDividing(stage.Rest, c.tasks.take()...)
	if err != nil {
		return told, err
	}
	c.book(results, &told)
	c.countLosses(v, results)
	told.Progress = c.times(v, refs)
	if err := c.wholeView(v); err != nil {
		// Windows of slices that are gone would be passed over: nothing is sealed, let alone dropped.
		v.WaitFor(&told.Waiting, err.Lane, err.Error())
		told.Progress.SealBefore, told.Progress.DropBefore = window.NoTime, window.NoTime
		return told, ctx.Err()
	}
	if err := c.request(ctx, v, told.Progress); err != nil {
		return told, err
	}
	c.advanceFinality(v, told.Progress)
	c.maintainFloors(ctx, v)
	told.Kept = c.sweepViews(ctx)
	return told, ctx.Err()
}

// remember forgets what is known of windows that a lane has folded into since the last round, and of those that are
// gone.
func (c *Closer) remember(v *view, refs []window.Ref) {
	before := make(map[store.LaneID]*survey.Lane)
	if c.prev != nil {
		for i := range c.prev.Lanes {
			before[c.prev.Lanes[i].ID] = &c.prev.Lanes[i]
		}
	}
	for i := range v.Lanes {
		l := &v.Lanes[i]
		old := before[l.ID]
		for k, s := range l.Slices {
			if old != nil && old.Slices[k] == s {
				continue
			}
			for _, ref := range survey.WindowsFrom(c.plan, k.Start, k.Gen) {
				delete(c.states, ref)
			}
		}
	}
	c.prev = v
	keep := make(map[window.Ref]struct{}, len(refs))
	for _, ref := range refs {
		keep[ref] = struct{}{}
	}
	gone := func(ref window.Ref) bool { _, ok := keep[ref]; return !ok }
	maps.DeleteFunc(c.states, func(ref window.Ref, _ state) bool { return gone(ref) })
	maps.DeleteFunc(c.failures, func(ref window.Ref, _ *failure) bool { return gone(ref) })
	maps.DeleteFunc(c.shown, func(ref window.Ref, _ struct{}) bool { return gone(ref) })
	maps.DeleteFunc(c.passedAt, func(ref window.Ref, _ time.Time) bool { return gone(ref) })
	maps.DeleteFunc(c.early, func(ref window.Ref, _ int) bool { return gone(ref) })
}

// due picks the windows to look at, by deadline.
func (c *Closer) due(v *view, refs []window.Ref) []window.Ref {
	var due []window.Ref
	for _, ref := range refs {
		if len(due) == c.cfg.MaxPerRound {
			break
		}
		f := c.failures[ref]
		switch {
		case c.states[ref] != final && v.Watermark < c.plan.End(ref) && c.isFloored(ref):
			due = append(due, ref) // a lane holds what it should not, and would drop it without a word
		case v.Watermark < c.plan.End(ref), f != nil && f.next > c.round, c.isExcluded(ref):
		case c.states[ref] == final:
		case (c.states[ref] == settled || c.rests(ref)) && !v.Sealed(c.plan.Deadline(ref)):
		default:
			due = append(due, ref)
		}
	}
	return due
}

// rests reports whether a window that has been published already has to wait with what late events changed.
func (c *Closer) rests(ref window.Ref) bool {
	_, shown := c.shown[ref]
	return shown && c.cfg.Now().Before(c.lateAfter)
}

// done is a task's window with what became of it.
type done struct {
	outcome
	ref   window.Ref
	err   error
	again bool // a fresh look may help at once: it waits for a lane, or what was asked for is older than the look
}

// closeAll closes windows, those of different slots in parallel. Windows that find a lane in the middle of a commit are
// tried again under a new look, up to looks looks in all, as long as still, which may be nil, finds nothing against it: a
// lane may have lost writes between two looks.
func (c *Closer) closeAll(ctx context.Context, v *view, refs []window.Ref, reason string, looks int,
	still func(*view, window.Ref) error) ([]done, error) {
	results := make([]done, len(refs))
	todo := make([]*done, len(refs))
	for i := range refs {
		results[i].ref, todo[i] = refs[i], &results[i]
	}
	for look := 1; ; look++ {
		slots := make(map[int][]*done)
		for _, d := range todo {
			if d.stale = d.stale || look > 1; look > 1 && still != nil { // what rounds remember belongs to the first look
				if d.err = still(v, d.ref); d.err != nil {
					d.again = again(d.err)
					continue
				}
			}
			n := c.slotOf(d.ref)
			slots[n] = append(slots[n], d)
		}
		order := slices.Sorted(maps.Keys(slots))
		flushes := reason == ledger.ReasonFlush && look == looks
		err := parallel.Do(ctx, c.cfg.Parallel, len(order), func(ctx context.Context, k int) error {
			return c.closeInSlot(ctx, order[k], v, slots[order[k]], reason, flushes)
		})
		if err != nil {
			return nil, err
		}
		todo = slices.DeleteFunc(todo, func(d *done) bool { return !d.again })
		if look == looks || len(todo) == 0 {
			return results, nil
		}
		if v, err = c.look(ctx); err != nil {
			return nil, err
		}
	}
}

// closeInSlot closes windows of one slot, one after the other or together. flushes lets first revisions be what is there.
func (c *Closer) closeInSlot(ctx context.Context, slot int, v *view, all []*done, reason string, flushes bool) error {
	tasks := make([]*task, len(all))
	for i, d := range all {
		tasks[i] = &task{ref: d.ref, view: v, reason: reason, early: c.early[d.ref] >= c.cfg.Patience || flushes}
	}
	for n := 0; n < len(tasks); {
		before := n
		c.inSlot(slot, func(s *publish.Held) { n += c.closeTogether(ctx, s, tasks[n:]) })
		for i, t := range tasks[before:n] {
			all[before+i].add(t)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if i := slices.IndexFunc(tasks[before:n], func(t *task) bool { return publish.IsOfSlot(t.err) }); i >= 0 {
			for _, d := range all {
				if d.row == nil {
					d.err = tasks[before+i].err
				}
			}
			return nil
		}
		clear(tasks[before:n]) // with their views
	}
	return nil
}

func (c *Closer) inSlot(slot int, fn func(*publish.Held)) {
	_ = c.slots[slot].Do(func(s *publish.Held) error {
		fn(s)
		return nil
	})
}

// add adds what became of a window under another look.
func (d *done) add(t *task) {
	before := d.outcome
	d.outcome, d.err = t.outcome, t.err
	d.again = again(d.err)
	if d.published = d.published || before.published; d.row == nil {
		d.row = before.row
	}
	if d.at.IsZero() {
		d.at = before.at
	}
	d.took += before.took
	d.stale = d.stale || before.stale
}

// again reports whether a fresh look may help at once. A closer that was fenced takes the slot over anew.
func again(err error) bool {
	var ahead *merge.AheadError
	return errors.As(err, &ahead) || errors.Is(err, merge.ErrMoved) || errors.Is(err, publish.ErrRowMoved) ||
		errors.Is(err, publish.ErrFenced) || errors.Is(err, store.ErrSuperseded)
}

// book takes over what became of a round's windows.
func (c *Closer) book(results []done, told *RoundReport) {
	kafka := make(map[string]struct{})
	var late time.Duration
	for i := range results {
		d := &results[i]
		if _, shown := c.shown[d.ref]; shown && d.published && !d.row.Final {
			late += d.took
		}
		if passed, ok := c.passedAt[d.ref]; ok && d.row != nil {
			if delete(c.passedAt, d.ref); d.published && d.row.Revision == 1 {
				c.cfg.Measure.Watermark.Observe(d.at.Sub(passed))
			}
		}
		if d.row != nil {
			c.shown[d.ref] = struct{}{}
		}
		if d.published {
			told.Closed = append(told.Closed, ClosedBy(d.row))
		}
		var slot *publish.SlotError
		var grew *GrewError
		switch {
		case d.err == nil:
			delete(c.failures, d.ref)
			delete(c.early, d.ref)
			switch {
			case d.row != nil && d.row.Final || d.final:
				c.states[d.ref] = final
			case !d.stale:
				c.states[d.ref] = settled
			}
		case errors.As(d.err, &slot):
			kafka[slot.Error()] = struct{}{}
		case errors.As(d.err, &grew):
			c.states[d.ref] = final
			told.Incidents = append(told.Incidents, c.trouble(d, 1))
		case Waits(d.err):
			c.early[d.ref]++
			told.Pending = append(told.Pending, c.trouble(d, c.early[d.ref]))
		default:
			f := c.failures[d.ref]
			if f == nil {
				f = new(failure)
				c.failures[d.ref] = f
			}
			f.times++
			f.next = c.round + min(maxPause, int64(1)<<min(f.times-1, 10))
			told.Failed = append(told.Failed, c.trouble(d, f.times))
			if Incident(d.err) {
				told.Incidents = append(told.Incidents, c.trouble(d, f.times))
			}
		}
	}
	told.Kafka = slices.Sorted(maps.Keys(kafka))
	if late > 0 {
		c.lateAfter = c.cfg.Now().Add(lateRest * late)
	}
}

// trouble is a window that was not closed, that often in a row.
func (c *Closer) trouble(d *done, times int) report.FailedWindow {
	id := c.windowID(d.ref)
	return report.FailedWindow{
		WindowRef: report.WindowRef{Window: id.Window, Start: id.Start}, Problem: d.err.Error(),
		Times: times, Kafka: Refused(d.err), Incident: Incident(d.err),
	}
}

// times finds how far sealing and dropping may go. refs are sorted by deadline.
func (c *Closer) times(v *view, refs []window.Ref) WindowTimes {
	t := WindowTimes{NextEnd: window.NoTime, SealBefore: window.NoTime, DropBefore: window.NoTime}
	allFinal := true
	for i, ref := range refs {
		deadline := c.plan.Deadline(ref)
		if end := c.plan.End(ref); end > v.Watermark && (t.NextEnd == window.NoTime || end < t.NextEnd) {
			t.NextEnd = end
		}
		if deadline <= v.Watermark {
			t.SealBefore = deadline
		}
		// What a round remembers is not enough: a lane that lost its state lacks windows that are not final yet.
		if allFinal = allFinal && c.states[ref] == final && v.Sealed(deadline); !allFinal {
			continue
		}
		if i+1 == len(refs) || c.plan.Deadline(refs[i+1]) > deadline {
			t.DropBefore = deadline
		}
	}
	return t
}

// request writes the requests to the lanes that have not been asked yet. A lane that its own watermark seals needs no
// request for it. A lane that has got another owner since the look is asked after the next one.
func (c *Closer) request(ctx context.Context, v *view, t WindowTimes) error {
	drop := max(t.DropBefore, c.flooredBefore()) // Redis may have forgotten what lanes were told, or a lane is new
	return parallel.Do(ctx, c.cfg.Parallel, len(v.Lanes), func(ctx context.Context, i int) error {
		l := &v.Lanes[i]
		if t.SealBefore > l.Passed() && t.SealBefore > l.Ctl.SealBefore {
			if _, err := c.cfg.State.SetSeal(ctx, l.ID, l.Meta.Owner, t.SealBefore); err != nil && !errors.Is(err, store.ErrLaneMoved) {
				return fmt.Errorf("ask lane %s to seal: %w", l.ID, err)
			}
		}
		if drop > l.Ctl.DropBefore {
			if _, err := c.cfg.State.SetDrop(ctx, l.ID, l.Meta.Owner, drop); err != nil && !errors.Is(err, store.ErrLaneMoved) {
				return fmt.Errorf("let lane %s drop: %w", l.ID, err)
			}
		}
		return nil
	})
}

// showRows shows rows in Redis that were published and could not be shown then. When a lane changed its owner or went
// back, Redis may have forgotten what it showed. A closer that begins does not know what happened before it, and looks at the
// whole ledger: slots that have nothing to close would not be looked at otherwise.
func (c *Closer) showRows(ctx context.Context, v *view) {
	doubt, begins := false, c.prev == nil
	if c.prev != nil && len(c.prev.Lanes) == len(v.Lanes) {
		for i := range v.Lanes {
			doubt = doubt || !v.Lanes[i].Meta.Guard().Follows(c.prev.Lanes[i].Meta.Guard())
		}
	}
	for _, s := range c.slots {
		if err := s.ShowRows(ctx, doubt, begins); err != nil {
			c.warnView(err)
		}
	}
}
