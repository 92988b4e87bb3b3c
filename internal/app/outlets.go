package app

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"millrace/activities"
	"millrace/pipeline/breaker"
	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// outlets are the state machines of this process's closers for the result producer, one per pipeline.
type outlets struct {
	ping   func(ctx context.Context, topic string) error                      // asks Kafka for a topic's metadata
	follow func(ctx context.Context, pipeline string, level activities.Level) // tells Temporal until ctx ends
	wanted func(ctx context.Context, pipeline string) (store.PipelineCtl, error)
	log    *slog.Logger

	mu   sync.Mutex
	made map[string]*outlet
	work sync.WaitGroup
}

// outlet is the state machine of one pipeline. It has no journal: results that Kafka does not take wait where they are.
type outlet struct {
	*breaker.Machine
	orders *obedience
	used   atomic.Int64 // ns, the last round
	stop   context.CancelFunc
}

// unused is how long after its last round a pipeline's closer is taken to be at work in another process: Kafka is left alone.
const unused = time.Minute

// outletThresholds: closing does not mind seconds, and a broker answers slower than Redis does.
var outletThresholds = breaker.Thresholds{OpenFor: briefly, PingEvery: 2 * time.Second, PingTimeout: 2 * time.Second, Pings: 2}

// of returns the machine of a pipeline and makes it when there is none.
func (o *outlets) of(pipeline string) (*outlet, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if made, ok := o.made[pipeline]; ok {
		return made, nil
	}
	made := &outlet{}
	made.used.Store(time.Now().UnixNano())
	prober, err := breaker.NewProber(func(ctx context.Context) error {
		if time.Since(time.Unix(0, made.used.Load())) > unused {
			return nil
		}
		if err := o.ping(ctx, ledger.Topic(pipeline)); !errors.Is(err, source.ErrUnknownTopic) {
			return err
		}
		return nil // which is an answer
	}, outletThresholds)
	if err != nil {
		return nil, err
	}
	m, err := breaker.New(breaker.Config{
		Pipeline: pipeline, Dependency: report.DependencyResults, Prober: prober, Thresholds: outletThresholds,
		Log: o.log.With("pipeline", pipeline),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	made.Machine, made.stop = m, cancel
	made.orders = &obedience{m: m, dependency: report.DependencyResults, log: o.log}
	o.made[pipeline] = made
	o.work.Go(func() { m.Run(ctx) })
	o.work.Go(func() { o.follow(ctx, pipeline, m) })
	o.work.Go(func() {
		made.obeyRedis(ctx, func(ctx context.Context) (store.PipelineCtl, error) { return o.wanted(ctx, pipeline) })
	})
	return made, nil
}

// existing returns the machine of a pipeline if there is one.
func (o *outlets) existing(pipeline string) (*outlet, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	made, ok := o.made[pipeline]
	return made, ok
}

// level is the machine of a pipeline as the control plane sees it.
func (o *outlets) level(pipeline string) (activities.Level, bool) {
	made, ok := o.existing(pipeline)
	if !ok {
		return nil, false
	}
	return made.Machine, true
}

func (o *outlets) statuses() (all []breaker.Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, made := range o.made {
		all = append(all, made.Status())
	}
	slices.SortFunc(all, func(a, b breaker.Status) int { return strings.Compare(a.Pipeline, b.Pipeline) })
	return all
}

// retain ends the machines of pipelines that have no closer here any more. One that is not at rest goes on until it is: somebody
// watches it.
func (o *outlets) retain(now time.Time, wanted map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for pipeline, made := range o.made {
		s := made.Status()
		rests := s.Level == report.LevelNormal && s.Order == nil && (s.Seq == 0 || now.Sub(s.Since) >= unused)
		if !wanted[pipeline] && rests {
			made.stop()
			delete(o.made, pipeline)
		}
	}
}

// close ends all machines.
func (o *outlets) close() {
	o.mu.Lock()
	for _, made := range o.made {
		made.stop()
	}
	clear(o.made)
	o.mu.Unlock()
	o.work.Wait()
}

// open reports whether the result producer is left alone now, and why.
func (o *outlet) open() (why string, open bool) {
	o.used.Store(time.Now().UnixNano())
	if o.Direct() {
		return "", false
	}
	return "the result producer's breaker is open: " + o.Status().Reason, true
}

// judge takes what came of a round, a flush or a drain: every window that was published and every one that could not be is a try
// on Kafka, and so is every slot that could not be taken over, however many windows it has. Nothing to publish says nothing.
func (o *outlet) judge(published int, failed []report.FailedWindow, slots []string) {
	for range published {
		o.Report(nil)
	}
	refused := make(map[string]struct{})
	for _, text := range slots {
		refused[text] = struct{}{}
	}
	for _, t := range failed {
		if t.Kafka {
			refused[t.Problem] = struct{}{}
		}
	}
	for text := range refused {
		o.Report(errors.New(text))
	}
}
