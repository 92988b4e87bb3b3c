package model

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
	"millrace/tests/oracle"
)

// recounting counts final windows of a run again when all of it was judged, with package shadow as it is: its runners have
// goroutines and clocks of their own, so the order of their calls is not the seed's, but what comes of them is.
type recounting struct {
	w      *World
	exempt func(window.Ref) bool
	logs   *logs
	found  []*recount // in the order in which they were begun
	calls  sync.Mutex // calls of runners are made one at a time
	steady bool       // Kafka is in no trouble
}

// recount is one shadow, and what it must find.
type recount struct {
	*recounting
	id        string
	ask       plan.Ask
	same      bool // as was decided, and by the same spec
	again     bool // of windows that may have been corrected meanwhile
	plan      *plan.Plan
	want      map[windowID]map[string]string // values by window and key, as the oracle counts
	counted   []*counted
	frozen    []*runner
	approvals int
	tops      [4]atomic.Int64 // position of the furthest batch that was ever taken, by partition
}

// Recount counts windows twice, in two ways, publishes what one of them found and then what the other found, certifies what
// they found equal, and ends both. It is called in a bubble of package synctest.
func (w *World) Recount() {
	lost := w.lostRulings()
	rs := &recounting{
		w: w, exempt: func(r window.Ref) bool { return w.plan.Deadline(r) <= lost }, logs: &logs{Kafka: w.kafka, w: w},
	}
	w.kafka.Plan(func(publishtest.Step) publishtest.Outcome { return publishtest.Pass })
	for range 2 {
		if w.out.Wrong == "" {
			rs.count(false)
		}
	}
	if w.out.Wrong == "" {
		rs.correct()
	}
	for _, r := range rs.found {
		if w.out.Wrong == "" {
			r.end()
		}
	}
	for _, r := range rs.found {
		r.thaw()
	}
	if w.out.Wrong == "" {
		rs.judgeEnds()
	}
}

// count counts windows once more. It returns nil when none of what was asked can be counted, or something goes wrong.
func (rs *recounting) count(again bool) *recount {
	r := rs.begin(fmt.Sprintf("r%d", len(rs.found)), again)
	if r == nil {
		return nil
	}
	if rs.found = append(rs.found, r); rs.w.out.Wrong != "" || !r.run() {
		return nil
	}
	r.judge()
	return r
}

// begin plans a shadow and makes its keys. It is nil when nothing of what was asked can be counted. What is counted again was
// counted before, in whatever way, and is counted now as the lanes have decided.
func (rs *recounting) begin(id string, again bool) *recount {
	w := rs.w
	r := &recount{recounting: rs, id: id, same: true, again: again}
	text, lateness := w.text, plan.AsRead
	if !again && w.rng.IntN(2) == 0 {
		lateness, r.same = plan.None, false
	}
	if !again && w.rng.IntN(3) == 0 {
		text, r.same = w.otherSpec(), false
	}
	counting, err := spec.Parse("recount.yaml", []byte(text))
	if err != nil {
		w.fail("recount: %v", err)
		return nil
	}
	span := w.now - origin + 1
	r.ask = plan.Ask{
		Pipeline: pipeline, ID: id, From: origin - 60_000 + w.rng.Int64N(60_000+span/2), Lateness: lateness, Live: w.spec, Spec: counting,
		Now: time.UnixMilli(w.clock()),
	}
	if starts := w.sealedStarts(); len(starts) > 0 && w.rng.IntN(2) == 0 {
		r.ask.From = starts[w.rng.IntN(len(starts))] - w.rng.Int64N(30_000)
	}
	r.ask.To = max(r.ask.From+1, w.now-w.rng.Int64N(1+span/2))
	if r.same && w.rng.IntN(2) == 0 {
		r.ask.Scope = plan.FromFirstOffset
	}
	rs.logs.planning = true
	p, err := shadow.Prepare(w.ctx, shadow.PrepareConfig{Ask: r.ask, Cluster: rs.logs, Metas: w.lab.store})
	rs.logs.planning = false
	var refused *plan.RefusedError
	switch {
	case errors.As(err, &refused):
		w.logf("recount refused: %v", err)
		w.out.Refused++
		return nil
	case err != nil:
		w.fail("recount: %v", err)
		return nil
	}
	w.out.Recounts++
	r.expect(p, text)
	w.twistPlan(p, rs.logs)
	if r.plan, err = shadow.Begin(w.ctx, w.lab.store, p, 1+w.rng.Int64N(40), time.UnixMilli(w.clock())); err != nil {
		w.fail("begin recount: %v", err)
	}
	w.logf("recount %s (%s) of %d windows, %+v", id, lateness, len(p.Windows), p.Lanes)
	return r
}

// sealedStarts are the starts of windows in which a lane began under a seal beyond its own watermark.
func (w *World) sealedStarts() (starts []int64) {
	for _, id := range sortedWindows(w.ledger.rows) {
		rows := w.ledger.rows[id]
		if slices.ContainsFunc(rows[len(rows)-1].Lanes, func(c ledger.Cover) bool {
			return c.Basis.Known && c.Basis.Sealed > c.Basis.Watermark
		}) {
			starts = append(starts, id.start)
		}
	}
	return starts
}

// otherSpec is the pipeline's spec with other events, or with windows that wait longer for late ones.
func (w *World) otherSpec() string {
	if w.steps%2 == 0 {
		lateness := "allowed_lateness: "
		return strings.Replace(w.text, lateness+w.spec.AllowedLateness.String(), lateness+"60s", 1)
	}
	return strings.Replace(w.text, `where: "v != 13"`, `where: "v != 13 && v % 4 != 0"`, 1)
}

// expect lets the oracle count what the shadow is to count. As read, a window takes nothing at or above what its row covers,
// however long the spec that counts lets it wait.
func (r *recount) expect(p *plan.Plan, text string) {
	w := r.w
	s, err := oracle.ReadSpec([]byte(text))
	if err != nil {
		w.fail("recount: %v", err)
		return
	}
	lanes := w.oracleLanes()
	for i := range lanes {
		end, read := r.logs.named[i], atoi(w.meta(i, "offset"))
		lanes[i].Records = slices.DeleteFunc(lanes[i].Records, func(rec oracle.Record) bool { return rec.Offset >= end })
		// An answer that still waits for its jump is the lane's: a recount accepts what the lane has accepted.
		lanes[i].Accepted = slices.DeleteFunc(lanes[i].Accepted, func(offset int64) bool { return offset >= read })
		if p.Lateness == plan.None {
			s.Lateness, lanes[i].Seals = 90*24*time.Hour, nil
			continue
		}
		for k := range p.Windows {
			lanes[i].Seals = append(lanes[i].Seals, oracle.Seal{Offset: p.Windows[k].Covered[i], Before: p.Windows[k].Deadline})
		}
	}
	res, err := oracle.Run(s, lanes)
	if err != nil {
		w.fail("recount: %v", err)
		return
	}
	r.want = map[windowID]map[string]string{}
	if err := eachRow(res, func(id windowID, key, values string) {
		if r.want[id] == nil {
			r.want[id] = map[string]string{}
		}
		r.want[id][key] = values
	}); err != nil {
		w.fail("recount: %v", err)
	}
}

// run lets runners count until one of them has come to the end: they die at any call, or freeze and go on beside the next one,
// or when the shadow is ended.
func (r *recount) run() bool {
	w := r.w
	for deaths := w.rng.IntN(5); ; deaths-- {
		one := r.newRunner()
		switch {
		case deaths > 0:
			one.dieAt, one.late = 3+w.rng.IntN(60), w.rng.IntN(2) == 0
		case deaths == 0 && w.rng.IntN(2) == 0:
			one.freezeAt = 3 + w.rng.IntN(60)
		}
		beside := len(r.frozen) > 0 && w.rng.IntN(2) == 0
		if beside {
			one.thawsAt(3 + w.rng.Int64N(60))
		}
		done := make(chan error, 1)
		go func() {
			_, err := shadow.Run(one.ctx, r.runConfig(one))
			done <- err
		}()
		var err error
		select {
		case err = <-done:
		case <-one.frozen:
			one.done = done
			r.frozen = append(r.frozen, one)
			w.out.Overtaken++
			w.logf("a runner of %s freezes", r.id)
			continue
		}
		one.close()
		switch {
		case err == nil:
			return true
		case one.dead:
			w.out.Killed++
			w.logf("a runner of %s dies: %v", r.id, err)
		case beside && (errors.Is(err, store.ErrFenced) || errors.Is(err, store.ErrOwnerChanged)):
			w.logf("a runner of %s is overtaken by one that it had overtaken: %v", r.id, err)
		default:
			w.fail("recount %s: %v", r.id, err)
			return false
		}
	}
}

func (r *recount) runConfig(one *runner) shadow.RunConfig {
	return shadow.RunConfig{
		Pipeline: pipeline, ID: r.id, Store: one.store, Ledger: r.w.kafka, Base: &publish.Contents{Kafka: r.w.kafka, State: one.store},
		Open: r.logs.openFor(r), By: "recount",
	}
}

// thaw lets the runners that are frozen go on and waits for what they come to.
func (r *recount) thaw() {
	for _, f := range r.frozen {
		f.goOn()
	}
}

// end ends the shadow, with deaths in between. Whoever was frozen goes on in the middle of it.
func (r *recount) end() {
	w := r.w
	for deaths := w.rng.IntN(3); ; deaths-- {
		one := r.newRunner()
		if deaths > 0 {
			one.dieAt, one.late = 1+w.rng.IntN(12), w.rng.IntN(2) == 0
		}
		one.thawsAt(1 + w.rng.Int64N(20))
		err := shadow.End(one.ctx, one.store, pipeline, r.id, time.UnixMilli(w.clock()), nil)
		one.close()
		if err == nil {
			return
		}
		if !one.dead {
			w.fail("end of recount %s: %v", r.id, err)
			return
		}
	}
}

// judgeEnds: nothing is left of what was ended, whoever went on after it.
func (rs *recounting) judgeEnds() {
	for _, r := range rs.found {
		for _, name := range rs.w.redis.names() {
			t := rs.w.redis.tags[name]
			if left := slices.Sorted(maps.Keys(t.hashes)); strings.HasPrefix(name, pipeline+"@"+r.id) && len(left) > 0 {
				rs.w.fail("recount %s was ended and has left %v", r.id, left)
			}
		}
		_, err := shadow.Run(context.Background(), shadow.RunConfig{Pipeline: pipeline, ID: r.id, Store: rs.w.lab.store})
		if !errors.Is(err, store.ErrNoShadow) {
			rs.w.fail("recount %s was ended and may be run: %v", r.id, err)
		}
	}
}

// counted is what a shadow has found of one window.
type counted struct {
	id      ledger.WindowID
	header  *diff.Header
	rows    []diff.Row
	content map[string]string // values by key
	base    map[string]string
}
