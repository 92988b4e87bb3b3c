package rig

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/audit"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// Recounted is what counting all final windows of a pipeline again has come to.
type Recounted struct {
	Windows int                              // counted, with those that were never published because they are empty
	Equal   int                              // of these, as the ledger, Redis and the result topic have them
	Wrong   map[ledger.WindowID][]diff.Wrong // the others, by what is wrong with them
	Refused map[ledger.WindowID]plan.Refusal // of those that the ledger has a row of
	Final   int                              // windows in the ledger
	counted map[ledger.WindowID]bool
	Offsets int64 // that were read
	Killed  bool  // the worker that counted was killed in the middle
}

// Reasons counts the refused windows by their reason, as text; "" without any.
func (r *Recounted) Reasons() string {
	counts := make(map[string]int)
	for _, refusal := range r.Refused {
		counts[refusal.Reason]++
	}
	var parts []string
	for reason, n := range counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, reason))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// Recount counts all windows of the ledger again as a recount does, in this process. In the middle of the first range with
// something to read its worker dies: from one moment on nothing of it reaches Redis, and another worker goes on. With thaw the
// first one comes back while the other reads, and must find out that the shadow is not its own any more.
func (p *Pipeline) Recount(thaw bool) *Recounted {
	p.T.Helper()
	return p.recount(recountHow{kill: true, thaw: thaw})
}

// RecountThen counts all windows of the ledger again, by a worker that lives on, and calls then, which may be nil, with what
// was found of each range, before that is deleted.
func (p *Pipeline) RecountThen(then func(id, checksum string)) *Recounted {
	p.T.Helper()
	return p.recount(recountHow{then: then})
}

// recountHow says what happens on the way.
type recountHow struct {
	kill, thaw bool // see Recount
	then       func(id, checksum string)
}

func (p *Pipeline) recount(how recountHow) *Recounted {
	p.T.Helper()
	out := &Recounted{Wrong: make(map[ledger.WindowID][]diff.Wrong), Refused: make(map[ledger.WindowID]plan.Refusal),
		counted: make(map[ledger.WindowID]bool)}
	var rows []ledger.Row
	Eventually(p.T, "the ledger has rows", Patience, func() bool { // a client may not know the topic yet
		rows = p.Ledger()
		return len(rows) > 0
	})
	for n, span := range spansOf(rows, p.Spec) {
		p.recountSpan(out, fmt.Sprintf("recount-%d", n), span, how)
	}
	p.requireAccounted(out, rows)
	return out
}

// openRate, in records per second, is one that no recount here reaches. Without a rate a recount rests for several times as
// long as its work takes, and that is minutes where many tests share the processors.
const openRate = 1 << 30

type timeSpan struct{ from, to int64 } // ms

// maxEmpty bounds how many windows without a row lie between two that are counted together.
const maxEmpty = 1000

// spansOf are ranges that hold all rows.
func spansOf(rows []ledger.Row, s *spec.Spec) (spans []timeSpan) {
	gap := int64(0)
	for _, w := range s.Windows {
		if ms := w.Slide.Millis(); gap == 0 || ms < gap {
			gap = ms
		}
	}
	rows = slices.SortedFunc(slices.Values(rows), func(a, b ledger.Row) int { return cmp.Compare(a.Start, b.Start) })
	for _, row := range rows {
		if n := len(spans) - 1; n >= 0 && row.Start-spans[n].to < maxEmpty*gap {
			spans[n].to = max(spans[n].to, row.End)
		} else {
			spans = append(spans, timeSpan{row.Start, row.End})
		}
	}
	return spans
}

func (p *Pipeline) recountSpan(out *Recounted, id string, span timeSpan, how recountHow) {
	p.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patience)
	defer cancel()
	planned, err := shadow.Prepare(ctx, shadow.PrepareConfig{
		Ask: plan.Ask{
			Pipeline: p.Spec.Name, ID: id, From: span.from, To: span.to, Lateness: plan.AsRead, Live: p.Spec, Spec: p.Spec,
			Recount: true, Now: time.Now(),
		},
		Cluster: p.Cluster, Metas: p.Store,
	})
	var refused *plan.RefusedError
	if errors.As(err, &refused) {
		out.refuse(refused.Refusals)
		return
	}
	require.NoError(p.T, err)
	out.refuse(planned.Refused)
	records := int64(0)
	for i := range planned.Lanes {
		records += planned.Lanes[i].Offsets()
	}
	out.Offsets += records
	kill := how.kill && !out.Killed && records > 0
	rate := int64(openRate)
	if kill {
		rate = max(1, records/2)
	}
	planned, err = shadow.Begin(ctx, p.Store, planned, rate, time.Now())
	require.NoError(p.T, err)
	var zombie chan error
	if kill {
		zombie = p.killShadow(ctx, out, planned, how.thaw)
		require.NoError(p.T, shadow.SetRate(ctx, p.Store, p.Spec.Name, id, openRate))
	}
	_, err = shadow.Run(ctx, p.shadowConfig(id, p.Store))
	require.NoError(p.T, err)
	if zombie != nil {
		err := <-zombie
		require.Error(p.T, err, "a worker that was frozen has gone on with a shadow that another one runs")
	}
	m, err := shadow.NewReader(p.Store, p.Spec.Name, id).Manifest(ctx)
	require.NoError(p.T, err)
	for _, h := range m.Headers {
		require.NotNil(p.T, h)
		require.Empty(p.T, h.Problem, "%s", h.ID())
		out.counted[h.ID()] = true
		if out.Windows++; h.Agrees() {
			out.Equal++
		} else {
			out.Wrong[h.ID()] = h.Wrong
		}
	}
	if how.then != nil {
		how.then(id, m.Checksum)
	}
	require.NoError(p.T, shadow.End(ctx, p.Store, p.Spec.Name, id, time.Now(), nil))
}

func (r *Recounted) refuse(refusals []plan.Refusal) {
	for _, refusal := range refusals {
		r.Refused[ledger.WindowID{Window: refusal.Window, Start: refusal.Start}] = refusal
	}
}

func (p *Pipeline) shadowConfig(id string, st *store.Store) shadow.RunConfig {
	return shadow.RunConfig{
		Pipeline: p.Spec.Name, ID: id, Store: st, Ledger: p.Cluster, Base: &publish.Contents{Kafka: p.Cluster, State: st}, By: "test",
		Open: func(cfg source.ReaderConfig) source.Reader {
			cfg.Cluster = p.Cluster
			return source.OpenReader(cfg)
		},
		Audit: audit.New(audit.Config{Spec: p.Spec, Kafka: p.Cluster, View: st}), Log: slog.New(slog.DiscardHandler),
	}
}

// killShadow runs a shadow until it has committed a part of what it reads, and takes Redis away from it at once and for good, unless it
// is to thaw: then it goes on a moment after this returns, and what it comes to is sent.
func (p *Pipeline) killShadow(ctx context.Context, out *Recounted, planned *plan.Plan, thaw bool) chan error {
	p.T.Helper()
	link := StartProxy(p.T, p.redis[0])
	cfg := store.DefaultConfig()
	cfg.Addrs = []string{link.Addr}
	rdb, err := store.NewClient(cfg)
	require.NoError(p.T, err)
	p.T.Cleanup(func() { rdb.Close() })
	ctx, kill := context.WithCancel(ctx)
	p.T.Cleanup(kill)
	ended := make(chan error, 1)
	go func() {
		_, err := shadow.Run(ctx, p.shadowConfig(planned.ID, store.New(rdb)))
		ended <- err
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !p.hasCommitted(ctx, planned) && len(ended) == 0 {
		<-tick.C
		require.NoError(p.T, ctx.Err(), "nothing of the shadow is committed")
	}
	link.Point("")
	out.Killed = len(ended) == 0
	if thaw && out.Killed {
		time.AfterFunc(time.Second, func() { link.Point(p.redis[0]) })
		return ended
	}
	kill()
	<-ended
	return nil
}

// hasCommitted reports whether a lane of the shadow has committed a part of what it reads.
func (p *Pipeline) hasCommitted(ctx context.Context, planned *plan.Plan) bool {
	for i := range planned.Lanes {
		l := &planned.Lanes[i]
		id := store.LaneID{Pipeline: p.Spec.Name + "@" + planned.ID, Topic: l.Topic, Partition: l.Partition}
		if m, found, err := p.Store.ReadMeta(ctx, id); err == nil && found && m.Offset > l.Start {
			return true
		}
	}
	return false
}

// requireAccounted wants every window of the ledger to be counted or refused. Of those that were refused it leaves out what is not
// final, and what has no row: it is empty.
func (p *Pipeline) requireAccounted(out *Recounted, rows []ledger.Row) {
	p.T.Helper()
	final := make(map[ledger.WindowID]bool, len(rows))
	for i := range rows {
		id := rows[i].ID()
		final[id] = rows[i].Final
		_, refused := out.Refused[id]
		require.NotEqual(p.T, refused, out.counted[id], "window %s is to be counted or refused", id)
	}
	maps.DeleteFunc(out.Refused, func(id ledger.WindowID, _ plan.Refusal) bool { return !final[id] })
	for _, is := range final {
		if is {
			out.Final++
		}
	}
}
