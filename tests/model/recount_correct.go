package model

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow/diff"
)

// correct publishes what the last recount has found, some of it again, and then what the one before has found of the same
// windows. Kafka loses requests and answers, and a closer of another process works in between.
func (rs *recounting) correct(found []*recount) {
	w := rs.w
	at := func(publishtest.Step) publishtest.Outcome {
		if rs.steady || w.rng.IntN(12) > 0 {
			return publishtest.Pass
		}
		return []publishtest.Outcome{publishtest.FailBefore, publishtest.FailAfter}[w.rng.IntN(2)]
	}
	before := map[windowID]int{}
	for id, rows := range w.ledger.rows {
		before[id] = len(rows)
	}
	first := map[windowID]*counted{}
	for _, r := range slices.Backward(found) {
		for _, c := range r.counted {
			if id := (windowID{c.id.Window, c.id.Start}); !c.header.Equal && first[id] == nil {
				first[id] = c
			}
		}
	}
	var closers []*result.Closer
	for _, by := range []string{"one", "other"} {
		c, err := result.NewCloser(result.Config{
			Spec: w.spec, State: w.lab.store, Kafka: w.kafka, By: by, Slots: slots, Parallel: 1, ReadAhead: 1,
			Jobs: map[string]result.JobKind{result.JobCorrections: result.Corrections{From: differences{rs, found}}},
			Now:  func() time.Time { return time.UnixMilli(w.clock()) },
		})
		if err != nil {
			w.fail("closer: %v", err)
			return
		}
		closers = append(closers, c)
		defer c.Close()
	}
	open := map[windowID]bool{}
	for _, r := range slices.Backward(found) {
		for range 2 + w.rng.IntN(2) {
			c := closers[w.rng.IntN(2)]
			w.kafka.Plan(at)
			if w.rng.IntN(3) == 0 {
				_, _ = closers[w.rng.IntN(2)].Round(w.ctx)
			}
			r.approve(c, open)
			w.kafka.Plan(func(publishtest.Step) publishtest.Outcome { return publishtest.Pass })
		}
	}
	for _, c := range closers {
		_, _ = c.Round(w.ctx) // what an answer was lost of is shown
	}
	if err := w.ledger.read(); err != nil {
		w.fail("ledger: %v", err)
		return
	}
	rs.judgeCorrections(first, before, open)
}

// judgeCorrections: whatever was approved, and however often, each window has the content that was approved first, as one
// revision. Rows that were given up meanwhile are not corrected.
func (rs *recounting) judgeCorrections(first map[windowID]*counted, before map[windowID]int, open map[windowID]bool) {
	w := rs.w
	latest, err := ledger.Latest(w.ctx, w.kafka, pipeline)
	if err != nil {
		w.fail("ledger: %v", err)
	}
	kept := map[windowID]bool{}
	for i := range latest {
		kept[windowID{latest[i].Window, latest[i].Start}] = true
	}
	contents := &publish.Contents{Kafka: w.kafka, State: w.lab.store}
	for _, id := range sortedWindows(w.ledger.rows) {
		if !kept[id] {
			continue
		}
		rows := w.ledger.rows[id]
		c, added := first[id], len(rows)-before[id]
		if c == nil || open[id] {
			c = nil
		}
		if want := c != nil; added != map[bool]int{true: 1}[want] {
			w.fail("%s: %d revisions more after the corrections, a correction of it: %t", id, added, want)
			return
		}
		if c == nil {
			continue
		}
		w.out.Corrected++
		content := map[string]string{}
		list, err := contents.Read(w.ctx, &rows[len(rows)-1])
		for _, row := range list {
			content[string(row.Key)] = string(row.Values)
		}
		if err != nil || !maps.Equal(content, c.content) {
			w.fail("%s: the correction has %v, counted were %v: %v", id, content, c.content, err)
		}
	}
}

// approve has the difference published, and tries again when Kafka was in trouble.
func (r *recount) approve(c *result.Closer, open map[windowID]bool) {
	body, err := json.Marshal(map[string]any{"replay": r.id, "checksum": r.id, "lateness": string(r.ask.Lateness)})
	if err != nil {
		r.w.fail("approve: %v", err)
		return
	}
	turn := func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	job := result.Job{ID: r.id, Kind: result.JobCorrections, Body: body}
	for tries := range 60 {
		if tries == 40 {
			r.w.kafka.Plan(func(publishtest.Step) publishtest.Outcome { return publishtest.Pass })
		}
		err = c.CarryOut(r.w.ctx, job, turn, func(done result.Carried) {
			job.Done++
			r.w.logf("approval of %s: %+v", r.id, done)
			if done.Verdict == publish.VerdictOpen {
				open[windowID{done.Window.Window, done.Window.Start}] = true
			}
		})
		if err == nil {
			return
		}
		r.w.logf("approval of %s: %v", r.id, err)
	}
	r.w.fail("approval of %s: %v", r.id, err)
}

// differences are what recounts have found, for the closers.
type differences struct {
	rs    *recounting
	found []*recount
}

// Open implements result.Differences.
func (d differences) Open(_ context.Context, _, replay string) (result.Difference, error) {
	for _, r := range d.found {
		if r.id == replay {
			return difference{r}, nil
		}
	}
	return nil, result.ErrNoDifference
}

// difference is what one recount has found, as it read it before anything was published.
type difference struct{ r *recount }

func (d difference) Checksum() string { return d.r.id }

func (d difference) Counted() (list []result.Counted) {
	for _, c := range d.r.counted {
		one := result.Counted{
			Row: c.header.Row, BaseRevision: c.header.BaseRevision, BaseChecksum: c.header.BaseChecksum, Equal: c.header.Equal, Scope: c.header.Scope,
		}
		d.r.twistBase(c, &one)
		list = append(list, one)
	}
	return list
}

// Content implements result.Difference.
func (d difference) Content(_ context.Context, id ledger.WindowID, base []ledger.Content, emit func(ledger.Content) error) error {
	c := d.r.counted[slices.IndexFunc(d.r.counted, func(c *counted) bool { return c.id == id })]
	if d.r.w.is(baseChecked) {
		return c.emitAll(base, emit)
	}
	a := diff.NewApplying(c.rows, emit)
	for _, row := range base {
		if err := a.AddBase(row); err != nil {
			return err
		}
	}
	return a.End(c.header)
}

// emitAll passes on what was counted, whatever it was compared with.
func (c *counted) emitAll(base []ledger.Content, emit func(ledger.Content) error) error {
	all := map[string]ledger.Content{}
	for _, row := range base {
		all[string(row.Key)] = ledger.Content{Key: row.Key, Values: []byte("{}"), Deleted: true}
	}
	for key, values := range c.content {
		all[key] = ledger.Content{Key: []byte(key), Values: []byte(values)}
	}
	rows := slices.SortedFunc(maps.Values(all), func(a, b ledger.Content) int { return bytes.Compare(a.Key, b.Key) })
	for _, row := range rows {
		if err := emit(row); err != nil {
			return err
		}
	}
	return nil
}
