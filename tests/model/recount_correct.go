package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow/found"
)

// correcting publishes and certifies what recounts have found. Kafka loses requests and answers, and the closer of another
// process works in between.
type correcting struct {
	*recounting
	closers   []*result.Closer
	rows      map[windowID]int        // how many rows each window had before
	revisions map[windowID]int        // the latest of each window before
	published map[windowID][]*counted // since, oldest first
	certified map[windowID]bool       // certificates that were reported
}

// correct publishes what the last recount has found, some of it again, and then what the one before has found of the same
// windows. In between, a third one may bring back what the lanes had published.
func (rs *recounting) correct() {
	w := rs.w
	c := &correcting{
		recounting: rs, rows: map[windowID]int{}, revisions: map[windowID]int{}, published: map[windowID][]*counted{},
		certified: map[windowID]bool{},
	}
	for id, rows := range w.ledger.rows {
		c.rows[id] = len(rows)
		for i := range rows {
			c.revisions[id] = rows[i].Revision
		}
	}
	for _, by := range []string{"one", "other"} {
		closer, err := result.NewCloser(result.Config{
			Spec: w.spec, State: w.lab.store, Kafka: w.kafka, By: by, Slots: slots, Parallel: 1, ReadAhead: 1,
			Jobs: map[string]result.JobKind{
				result.JobCorrections: result.Corrections{From: differences{rs}}, result.JobCertify: result.Certify{From: differences{rs}},
			},
			Now: func() time.Time { return time.UnixMilli(w.clock()) },
		})
		if err != nil {
			w.fail("closer: %v", err)
			return
		}
		c.closers = append(c.closers, closer)
		defer closer.Close()
	}
	approve := func(r *recount) {
		for range 2 + w.rng.IntN(2) {
			if r.approvals++; w.out.Wrong == "" {
				c.carryOut(r, result.JobCorrections, func(done result.Carried) { c.bookCorrection(r, done) })
			}
		}
	}
	for _, r := range slices.Backward(slices.Clone(rs.found)) {
		approve(r)
		if len(rs.found) == 2 && w.out.Wrong == "" && w.rng.IntN(2) == 0 {
			if back := rs.count(true); back != nil {
				approve(back)
			}
		}
	}
	for _, r := range rs.found {
		if r.same && w.out.Wrong == "" {
			c.carryOut(r, result.JobCertify, func(done result.Carried) { c.bookCertificate(r, done) })
		}
	}
	if w.out.Wrong != "" {
		return
	}
	for _, closer := range c.closers {
		_, _ = closer.Round(w.ctx) // what an answer was lost of is shown
	}
	c.judge()
}

// carryOut has a closer do a job about what a recount has found, and tries again when Kafka was in trouble.
func (c *correcting) carryOut(r *recount, kind string, book func(result.Carried)) {
	w := c.w
	pass := func(publishtest.Step) publishtest.Outcome { return publishtest.Pass }
	w.kafka.Plan(func(publishtest.Step) publishtest.Outcome {
		if c.steady || w.rng.IntN(12) > 0 {
			return publishtest.Pass
		}
		return []publishtest.Outcome{publishtest.FailBefore, publishtest.FailAfter}[w.rng.IntN(2)]
	})
	defer w.kafka.Plan(pass)
	if w.rng.IntN(3) == 0 {
		_, _ = c.closers[w.rng.IntN(2)].Round(w.ctx)
	}
	body, err := json.Marshal(map[string]any{"replay": r.id, "checksum": r.checksum(), "lateness": string(r.ask.Lateness)})
	if err != nil {
		w.fail("%s of %s: %v", kind, r.id, err)
		return
	}
	turn := func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	job := result.Job{ID: r.id, Kind: kind, Body: body}
	closer := c.closers[w.rng.IntN(2)]
	for tries := range 60 {
		if tries == 40 {
			w.kafka.Plan(pass)
		}
		err = closer.CarryOut(w.ctx, job, turn, func(done result.Carried) {
			job.Done++
			w.logf("%s of %s: %+v", kind, r.id, done)
			book(done)
		})
		if err == nil {
			return
		}
		w.logf("%s of %s: %v", kind, r.id, err)
	}
	w.fail("%s of %s: %v", kind, r.id, err)
}

// bookCorrection checks what became of a correction. It is published on its base, once; whoever repeats it finds it, unless
// the window has moved on.
func (c *correcting) bookCorrection(r *recount, done result.Carried) {
	id, of := windowID{done.Window.Window, done.Window.Start}, r.of(done.Window)
	published := c.published[id]
	n := len(published)
	want := publish.VerdictPublished
	switch {
	case n > 0 && published[n-1] == of:
		want = publish.VerdictDone
	case of.header.BaseRevision != c.revisions[id]+n:
		want = publish.VerdictMoved
	}
	switch {
	case done.Verdict == publish.VerdictOpen && of.header.BaseRevision == 0:
	case done.Verdict == publish.VerdictMoved && of.header.BaseRevision > 0 && c.latest(done.Window) == nil: // given up
	case done.Verdict == want, done.Verdict == publish.VerdictDone && want == publish.VerdictPublished: // an answer may be lost
		if want == publish.VerdictPublished {
			c.published[id] = append(published, of)
		}
	default:
		c.w.fail("approval %d of recount %s: the correction of %s is %q, should be %q; the window was corrected %d times: %s",
			r.approvals, r.id, done.Window, done.Verdict, want, n, done.Problem)
	}
}

// bookCertificate checks what became of a certificate: a window that was corrected since it was counted has none.
func (c *correcting) bookCertificate(r *recount, done result.Carried) {
	id, of := windowID{done.Window.Window, done.Window.Start}, r.of(done.Window)
	current := of.header.BaseRevision == c.revisions[id]+len(c.published[id])
	switch {
	case of.header.BaseRevision == 0 && done.Verdict == publish.VerdictUnchanged:
	case done.Verdict == publish.VerdictMoved && (!current || c.latest(done.Window) == nil):
	case current && (done.Verdict == publish.VerdictPublished || done.Verdict == publish.VerdictDone):
		c.certified[id] = true
		c.w.out.Certified++
	default:
		c.w.fail("recount %s: the certificate of %s is %q, and the revision that was counted is the latest: %t; %s",
			r.id, done.Window, done.Verdict, current, done.Problem)
	}
}

// judge: the ledger holds what was reported and nothing else. Rows that were given up meanwhile, and their certificates, are
// gone.
func (c *correcting) judge() {
	w := c.w
	if err := w.ledger.read(); err != nil {
		w.fail("ledger: %v", err)
		return
	}
	latest, err := ledger.Latest(w.ctx, w.kafka, pipeline)
	if err != nil {
		w.fail("ledger: %v", err)
	}
	contents := &publish.Contents{Kafka: w.kafka, State: w.lab.store}
	kept := map[windowID]bool{}
	for i := range latest {
		row := &latest[i]
		id := windowID{row.Window, row.Start}
		kept[id] = true
		published := c.published[id]
		if added := len(w.ledger.rows[id]) - c.rows[id]; added != len(published) {
			w.fail("%s: %d revisions more after the corrections, %d of them were reported", id, added, len(published))
			return
		}
		if len(published) == 0 {
			continue
		}
		w.out.Corrected += len(published)
		content := map[string]string{}
		list, err := contents.Read(w.ctx, row)
		for _, row := range list {
			content[string(row.Key)] = string(row.Values)
		}
		if want := published[len(published)-1].content; err != nil || !maps.Equal(content, want) {
			w.fail("%s: the correction has %v, counted were %v: %v", id, content, want, err)
		}
	}
	certificates, err := ledger.Certificates(w.ctx, w.kafka, pipeline)
	if err != nil {
		w.fail("ledger: %v", err)
	}
	for i := range certificates {
		cert := &certificates[i]
		id := windowID{cert.Window, cert.Start}
		if revision := c.revisions[id] + len(c.published[id]); !c.certified[id] || cert.Revision != revision {
			w.fail("%s: revision %d is certified, reported: %t; the latest is %d", id, cert.Revision, c.certified[id], revision)
		}
		delete(c.certified, id)
	}
	for id := range c.certified {
		if kept[id] {
			w.fail("%s: its certificate was reported and is not there", id)
		}
	}
}

// of is what the recount has found of a window.
func (r *recount) of(id ledger.WindowID) *counted {
	return r.counted[slices.IndexFunc(r.counted, func(c *counted) bool { return c.id == id })]
}

// checksum stands for that of the whole difference.
func (r *recount) checksum() string {
	if r.w.is(approvedOnce) {
		return fmt.Sprintf("%s of approval %d", r.id, r.approvals)
	}
	return r.id
}

// differences are what recounts have found, for the closers.
type differences struct{ rs *recounting }

// Open implements result.Differences.
func (d differences) Open(_ context.Context, _, replay string) (result.Difference, error) {
	for _, r := range d.rs.found {
		if r.id == replay {
			return difference{r}, nil
		}
	}
	return nil, result.ErrNoDifference
}

// difference is what one recount has found, as it read it before anything was published.
type difference struct{ r *recount }

// Checksum implements result.Difference.
func (d difference) Checksum() string { return d.r.checksum() }

// Counted implements result.Difference.
func (d difference) Counted() (list []result.Counted) {
	for _, c := range d.r.counted {
		one := result.Counted{
			Row: c.header.Row, BaseRevision: c.header.BaseRevision, BaseChecksum: c.header.BaseChecksum, Equal: c.header.Equal,
			Scope: c.header.Scope,
		}
		d.r.twistBase(&one)
		list = append(list, one)
	}
	return list
}

// Changes implements result.Difference.
func (d difference) Changes(_ context.Context, id ledger.WindowID) ([]publish.Change, error) {
	return found.Changes(d.r.of(id).rows), nil
}

// Whole implements result.Difference: a recount of this model mends nothing.
func (d difference) Whole(context.Context, ledger.WindowID, func(ledger.Content) error) error {
	return errors.ErrUnsupported
}
