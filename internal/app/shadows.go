package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/pprof"
	"time"

	"millrace/activities"
	"millrace/internal/build"
	"millrace/internal/contract"
	"millrace/pipeline/agg"
	"millrace/pipeline/ledger"
	"millrace/pipeline/measure"
	"millrace/pipeline/profile"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/audit"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
)

// shadows reads ranges of pipelines again.
type shadows struct {
	store   *store.Store
	cluster *source.Cluster
	measure *measure.Process
	by      string        // the worker, for people
	keeps   func() string // shadow.RunConfig.KeepFields
	log     *slog.Logger
}

var _ activities.Shadows = shadows{}

// IDs implements activities.Shadows.
func (s shadows) IDs(ctx context.Context, pipeline string) ([]string, error) {
	return shadow.List(ctx, s.store, pipeline)
}

// Plan implements activities.Shadows.
func (s shadows) Plan(ctx context.Context, own, with *spec.Spec, ask contract.ReplayAsk) (contract.ReplayPlan, error) {
	p, err := s.prepare(ctx, own, with, ask)
	if err != nil {
		return contract.ReplayPlan{}, err
	}
	return planOf(p, ask), nil
}

func (s shadows) prepare(ctx context.Context, own, with *spec.Spec, ask contract.ReplayAsk) (*plan.Plan, error) {
	cfg := shadow.PrepareConfig{Ask: askOf(own, with, ask), Cluster: s.cluster, Metas: s.store}
	if ask.FromLate {
		if own.Late.Kafka == nil {
			return nil, fmt.Errorf("%w: pipeline %s has no late topic to count from", activities.ErrRefused, own.Name)
		}
		cfg.Late = verify.LateTopic(s.cluster, own.Late.Kafka.Topic)
	}
	p, err := shadow.Prepare(ctx, cfg)
	return p, refusalOfPlan(err)
}

// refusalOfPlan turns the errors of a plan that trying again cannot mend into activities.ErrRefused.
func refusalOfPlan(err error) error {
	var impossible *plan.RefusedError
	switch {
	case errors.As(err, &impossible):
		return fmt.Errorf("%w: %w", activities.ErrRefused, err)
	case errors.Is(err, source.ErrUnknownTopic):
		return fmt.Errorf("%w: %w; a pipeline that was removed, or has never been started, cannot be counted again", activities.ErrRefused, err)
	}
	return err
}

func askOf(own, with *spec.Spec, ask contract.ReplayAsk) plan.Ask {
	out := plan.Ask{
		Pipeline: ask.Pipeline, ID: ask.ID, From: ask.From.UnixMilli(), To: ask.To.UnixMilli(), Lateness: plan.Lateness(ask.Lateness),
		Scope: plan.Scope(ask.Scope), Live: own, Spec: with, MaxRate: ask.Rate, Recount: ask.Recount,
		Now: time.Now(),
	}
	if ask.FromLate {
		out.Lateness = plan.FromLate
	}
	if ask.Window != "" {
		out.Families = []string{ask.Window}
	}
	if !ask.Recount && out.Scope == "" { // what is published has to hold whatever arrived
		out.Scope = plan.Whole
	}
	return out
}

// planOf is a plan as the control plane shows it.
func planOf(p *plan.Plan, ask contract.ReplayAsk) contract.ReplayPlan {
	out := contract.ReplayPlan{
		Windows: len(p.Windows), Records: p.Figures.Records, Bytes: p.Figures.Bytes, RedisBytes: p.Figures.RedisBytes,
		Seconds: int64(math.Ceil(p.Figures.Minutes * 60)), Rate: int64(p.Figures.Rate), SpecSame: p.SameSpec, LeftOut: len(p.Refused),
	}
	if ask.Recount {
		out.Scope = string(p.Scope)
	}
	others := 0
	for i := range p.Windows {
		if base := p.Windows[i].Base; base != nil && base.Spec != "" && base.Spec != p.SpecVersion {
			others++
		}
		ref := &report.WindowRef{Window: p.Windows[i].Name, Start: p.Windows[i].Start}
		if out.First == nil || ref.Start < out.First.Start {
			out.First = ref
		}
		if out.Last == nil || ref.Start > out.Last.Start {
			out.Last = ref
		}
	}
	switch {
	case others == 0:
	case ask.Recount:
		out.Notes = append(out.Notes, fmt.Sprintf("%d of the windows were published under another version of the spec "+
			"than the pipeline has now: what it counts otherwise differs", others))
	case p.SameSpec:
		out.Notes = append(out.Notes, fmt.Sprintf("%d of the windows were published under another version of the spec "+
			"than this replay counts with: if a replay with another spec has corrected them, an approval takes that back", others))
	}
	for i := range p.Lanes {
		l := &p.Lanes[i]
		out.Lanes = append(out.Lanes, contract.ReplayLane{Topic: l.Topic, Partition: l.Partition, Start: l.Start, End: l.End})
	}
	for i := range p.Refused {
		r := &p.Refused[i]
		left := contract.LeftWindow{Reason: r.Reason, Detail: r.Detail}
		if r.Window != "" {
			left.Window = &report.WindowRef{Window: r.Window, Start: r.Start}
		}
		out.Why = append(out.Why, left)
	}
	return out
}

// Read implements activities.Shadows.
func (s shadows) Read(ctx context.Context, own, with *spec.Spec, ask contract.ReplayAsk, progress func(contract.ReplayProgress),
) (contract.ReplaySummary, error) {
	p, err := shadow.Load(ctx, s.store, ask.Pipeline, ask.ID)
	if errors.Is(err, store.ErrNoShadow) {
		if p, err = s.prepare(ctx, own, with, ask); err == nil {
			p, err = shadow.Begin(ctx, s.store, p, ask.Rate, time.Now())
		}
	}
	if err != nil {
		return contract.ReplaySummary{}, s.unreadable(ctx, ask.ReplayRef, err)
	}
	renderer, err := agg.NewRenderer(own)
	if err != nil {
		return contract.ReplaySummary{}, err
	}
	contents := &publish.Contents{Kafka: s.cluster, State: s.store, Render: renderer.Render}
	live := shadow.NewLive(ask.Pipeline, s.cluster, s.store, partitionsOf(p), time.Now)
	cfg := shadow.RunConfig{
		Pipeline: ask.Pipeline, ID: ask.ID, Store: s.store, Ledger: s.cluster, Base: contents,
		Open: func(cfg source.ReaderConfig) source.Reader {
			cfg.Cluster = s.cluster
			return source.OpenReader(cfg)
		},
		Lagging: live.Lagging, By: s.by, Build: build.Version(), KeepFields: s.keeps,
		Progress: func(r shadow.Report) { progress(progressOfShadow(r)) },
		Log:      s.log.With("pipeline", ask.Pipeline, "replay", ask.ID),
	}
	if ask.Recount {
		cfg.Audit = audit.New(audit.Config{Spec: own, Kafka: s.cluster, View: s.store})
	}
	began := time.Now()
	var found shadow.Result
	pprof.Do(ctx, profile.OfPipeline(profile.Shadow, ask.Pipeline), func(ctx context.Context) { found, err = shadow.Run(ctx, cfg) })
	if err != nil {
		return contract.ReplaySummary{}, s.unreadable(ctx, ask.ReplayRef, err)
	}
	s.measure.Pipeline(ask.Pipeline).Replay.Observe(time.Since(began))
	return s.summarize(ctx, ask, found)
}

// unreadable says what a failure of a shadow means for the next attempt. A shadow of which Redis has lost a part is ended, so that the
// next attempt begins anew.
func (s shadows) unreadable(ctx context.Context, of contract.ReplayRef, err error) error {
	var memory *shadow.MemoryError
	switch {
	case errors.As(err, &memory), errors.Is(err, store.ErrShadowEnds):
		return fmt.Errorf("%w: %w", activities.ErrRefused, err)
	case errors.Is(err, shadow.ErrLost), errors.Is(err, shadow.ErrOtherPlan):
		return errors.Join(err, s.End(context.WithoutCancel(ctx), of, func(int64) {}))
	}
	return err
}

func partitionsOf(p *plan.Plan) []source.TopicPartition {
	tps := make([]source.TopicPartition, len(p.Lanes))
	for i := range p.Lanes {
		tps[i] = source.TopicPartition{Topic: p.Lanes[i].Topic, Partition: p.Lanes[i].Partition}
	}
	return tps
}

// progressOfShadow is a shadow's report as the control plane shows it.
func progressOfShadow(r shadow.Report) contract.ReplayProgress {
	out := contract.ReplayProgress{
		Read: r.Read, Records: r.Records, Rate: r.Rate, Limit: r.Limit, Windows: r.Windows, Done: r.Compared, Waits: r.Waits,
	}
	for i := range r.Lanes {
		l := &r.Lanes[i]
		out.Lanes = append(out.Lanes, contract.ReplayLanePart{
			ReplayLane: contract.ReplayLane{Topic: l.Topic, Partition: l.Partition, Start: l.Start, End: l.End}, Offset: l.Committed, Rate: l.Rate,
		})
		if out.Waits == "" && l.Reason != "" {
			out.Waits = fmt.Sprintf("%s/%d: %s", l.Topic, l.Partition, l.Reason)
		}
	}
	return out
}

// SetRate implements activities.Shadows.
func (s shadows) SetRate(ctx context.Context, of contract.ReplayRef, recordsPerSecond int64) error {
	err := shadow.SetRate(ctx, s.store, of.Pipeline, of.ID, recordsPerSecond)
	if errors.Is(err, store.ErrNoShadow) || errors.Is(err, store.ErrShadowEnds) {
		return fmt.Errorf("%w: %w", activities.ErrRefused, err)
	}
	return err
}

// Diff implements activities.Shadows.
func (s shadows) Diff(ctx context.Context, _ *spec.Spec, in contract.ShowDiffInput) (contract.DiffPage, error) {
	out := contract.DiffPage{WindowRef: in.Window, Page: in.Page}
	r := shadow.NewReader(s.store, in.Pipeline, in.ID)
	id := ledger.WindowID{Window: in.Window.Window, Start: in.Window.Start}
	h, err := r.Header(ctx, id)
	switch {
	case err != nil:
		return out, err
	case h == nil || h.Pages == 0:
		return out, fmt.Errorf("%w: nothing differs in %s; the status names the windows that differ", activities.ErrRefused, in.Window)
	case in.Page >= h.Pages:
		return out, fmt.Errorf("%w: page is %d, and %s has pages 0 to %d", activities.ErrRefused, in.Page, in.Window, h.Pages-1)
	}
	rows, err := r.Page(ctx, id, in.Page)
	if err != nil {
		return out, err
	}
	out.Pages = h.Pages
	size := 0
	for i := range rows {
		row := &rows[i]
		if row.Kind() == diff.Unchanged {
			continue
		}
		if size += len(row.Key) + len(row.Old) + len(row.New); size > contract.MaxDiffPage {
			return out, fmt.Errorf("%w: a row of %s is longer than a page takes here; read it with `millrace replay diff %s %s`",
				activities.ErrRefused, in.Window, in.Pipeline, in.ID)
		}
		out.Rows = append(out.Rows, contract.DiffRow{
			Key: row.Key, Old: row.Old, New: row.New, OldOverflow: row.OldOverflow, NewOverflow: row.NewOverflow,
		})
	}
	return out, nil
}

// End implements activities.Shadows.
func (s shadows) End(ctx context.Context, of contract.ReplayRef, progress func(int64)) error {
	return shadow.End(ctx, s.store, of.Pipeline, of.ID, time.Now(), progress)
}

// Shadows implements activities.Remains.
func (r remains) Shadows(ctx context.Context, pipeline string) ([]string, error) {
	return shadow.List(ctx, r.store, pipeline)
}
