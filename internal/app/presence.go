package app

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// beats is the part of a store that a presence needs.
type beats interface {
	Beat(ctx context.Context, fleet string, me store.Present, body []byte) ([]store.Present, error)
	Bodies(ctx context.Context, fleet string, ids ...string) ([][]byte, error)
	Bury(ctx context.Context, fleet string, seen store.Present) (bool, error)
	Leave(ctx context.Context, fleet, id string) error
}

// placing tells Replica workflows what the fleet sees.
type placing interface {
	holderGone(ctx context.Context, pipeline string, replica int, in contract.HolderGone) error
	handOver(ctx context.Context, pipeline string, replica int, in contract.HandOver) (contract.PlaceReceipt, error)
}

// presence says in Redis that this process is there and what it runs, and watches the others: it tells the Replicas of a process that is
// gone, and hands hot paths over to processes that have fewer. Both are courtesies. Without them, because Redis or Temporal is
// away, a Replica finds by missed heartbeats that its holder is gone, and hot paths stay where they are.
type presence struct {
	store  beats
	leases activities.Leases
	fleet  string // processes of other Temporal namespaces are none of ours
	me     store.Present
	worker string
	wal    bool
	log    *slog.Logger

	ready    atomic.Bool
	archives *archives
	format   *fleetFormat
	watch    *fleetWatch
	sent     []byte // the body of the last beat
	gaps     beatGaps

	mu      sync.Mutex
	refused map[refusedMove]time.Time
	busy    bool // a hand-over is under way
	work    sync.WaitGroup
}

func newPresence(s beats, leases activities.Leases, fleet, queue, worker string, wal bool, log *slog.Logger) *presence {
	return &presence{
		store: s, leases: leases, fleet: fleet, me: store.Present{ID: queue}, worker: worker, wal: wal, log: log,
		archives: newArchives(), format: newFleetFormat(log), watch: newFleetWatch(queue), refused: make(map[refusedMove]time.Time),
	}
}

// run beats until ctx ends, and then takes its leave.
func (p *presence) run(ctx context.Context, seats func() (all []seat, ending bool), tell placing) {
	tick := time.NewTicker(contract.PresenceEvery)
	defer tick.Stop()
	for {
		p.beat(ctx, seats, tell)
		select {
		case <-ctx.Done():
			p.work.Wait()
			limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), contract.GoneAfter)
			defer cancel()
			if err := p.store.Leave(limited, p.fleet, p.me.ID); err != nil {
				p.log.InfoContext(ctx, "the fleet was not told that this worker ends; it finds out by itself", "error", err)
			}
			return
		case <-tick.C:
		}
	}
}

// beat says what there is to say, sees what others say, and acts on it.
func (p *presence) beat(ctx context.Context, seats func() ([]seat, bool), tell placing) {
	limited, cancel := context.WithTimeout(ctx, ownGap)
	defer cancel()
	defer func() { p.format.note(p.watch.keepsFields(time.Now())) }()
	body := p.body(seats)
	if p.me.Beat++; string(body) != string(p.sent) {
		p.me.Version++
	}
	began := time.Now()
	all, err := p.store.Beat(limited, p.fleet, p.me, body)
	now := time.Now()
	if err != nil {
		if now.Sub(began) < 2*ownGap { // later than its limit an error comes only to a process that did not run
			p.gaps.failed()
		}
		return // Redis has its own guard; the watch notices the gap
	}
	p.gaps.succeeded(now)
	p.sent = body
	if unread := p.watch.see(now, all); len(unread) > 0 {
		bodies, err := p.store.Bodies(limited, p.fleet, unread...)
		if err != nil {
			return
		}
		for i, data := range bodies {
			var m member
			if data != nil && json.Unmarshal(data, &m) == nil {
				p.watch.learn(unread[i], m)
			}
		}
	}
	p.archives.learn(p.watch.others())
	for _, s := range p.watch.gone(now) {
		if !p.ready.Load() {
			break // who buries a process keeps the others from telling its Replicas, and this process could not tell them
		}
		seen, body := s.present, s.body
		delete(p.watch.known, seen.ID)
		p.work.Go(func() { p.bury(ctx, seen, body, tell) })
	}
	if m, ok := p.watch.move(now); ok && p.begin() {
		p.watch.rest(now)
		p.work.Go(func() { p.hand(ctx, m, tell) })
	}
}

func (p *presence) body(seats func() ([]seat, bool)) []byte {
	now := time.Now()
	m := member{
		Worker: p.worker, Ready: p.ready.Load(), WAL: p.wal, State: store.PageFormat, Older: p.watch.settles(now),
		Slow: p.gaps.slow(now).Milliseconds(),
	}
	m.Seats, m.Ending = seats()
	p.archives.describe(&m)
	slices.SortFunc(m.Seats, func(a, b seat) int {
		return cmp.Or(strings.Compare(a.Pipeline, b.Pipeline), cmp.Compare(a.Replica, b.Replica))
	})
	p.mu.Lock()
	for r, until := range p.refused {
		if time.Now().After(until) {
			delete(p.refused, r)
			continue
		}
		m.Refused = append(m.Refused, r)
	}
	p.mu.Unlock()
	slices.SortFunc(m.Refused, func(a, b refusedMove) int {
		return cmp.Or(strings.Compare(a.Pipeline, b.Pipeline), strings.Compare(a.To, b.To))
	})
	body, err := json.Marshal(m)
	if err != nil {
		p.log.Error("this worker cannot describe itself to the fleet", "error", err)
	}
	return body
}

// tellFor bounds the telling: after it the Replicas have found out by themselves.
const tellFor = 10 * time.Second

// bury frees the leases of a process that is gone and tells its Replicas. Of all that notice, one does it.
func (p *presence) bury(ctx context.Context, seen store.Present, body member, tell placing) {
	ctx, cancel := context.WithTimeout(ctx, tellFor)
	defer cancel()
	won, err := p.store.Bury(ctx, p.fleet, seen)
	if err != nil || !won {
		return
	}
	p.log.WarnContext(ctx, "a worker is gone; its hot paths are placed anew", "gone", body.Worker, "hot_paths", len(body.Seats))
	var all sync.WaitGroup
	for _, s := range body.Seats {
		all.Go(func() { p.tellGone(ctx, seen.ID, body.Worker, s, tell) })
	}
	all.Wait()
}

func (p *presence) tellGone(ctx context.Context, queue, worker string, s seat, tell placing) {
	log := p.log.With("pipeline", s.Pipeline, "replica", s.Replica, "gone", worker)
	lease, found, err := p.leases.ReadLease(ctx, s.Pipeline, s.Replica)
	if err == nil && found && lease.Queue == queue {
		err = p.leases.ReleaseLease(ctx, s.Pipeline, s.Replica, lease.Token)
	}
	if err != nil {
		log.WarnContext(ctx, "the lease of a worker that is gone was not freed; it runs out by itself", "error", err)
		return
	}
	if err := tell.holderGone(ctx, s.Pipeline, s.Replica, contract.HolderGone{
		Queue: queue, Worker: worker, By: p.worker, Reason: fmt.Sprintf("no sign of life in Redis for %s", contract.GoneAfter),
	}); err != nil {
		log.InfoContext(ctx, "the replica was not told that its worker is gone; it finds out by missed heartbeats", "error", err)
	}
}

// begin reports whether no hand-over is under way, and takes note of one that begins.
func (p *presence) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.busy {
		return false
	}
	p.busy = true
	return true
}

// hand asks a Replica to move its hot path.
func (p *presence) hand(ctx context.Context, m move, tell placing) {
	ctx, cancel := context.WithTimeout(ctx, tellFor)
	defer cancel()
	reason := fmt.Sprintf("%d of the pipeline here and %d there, %d and %d in all", m.here, m.there, m.all, m.allThere)
	receipt, err := tell.handOver(ctx, m.pipeline, m.replica, contract.HandOver{From: m.from, To: m.to, Worker: m.worker, Reason: reason})
	log := p.log.With("pipeline", m.pipeline, "replica", m.replica, "to", m.worker, "reason", reason)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.busy = false
	switch {
	case err != nil:
		log.InfoContext(ctx, "a hot path was not handed over", "error", err)
	case receipt.Taken:
		log.InfoContext(ctx, "a hot path is handed over")
	default:
		log.InfoContext(ctx, "a hot path was not handed over", "error", receipt.Note)
		p.refused[refusedMove{m.pipeline, m.to}] = time.Now().Add(contract.RefusedMoveFor)
	}
}

// seats describes the hot paths of a host. A hot path is steady when Temporal knows of it, all its lanes run and Redis is well.
func (e *engines) seats(host *activities.Host) (all []seat, ending bool) {
	for _, path := range host.Paths() {
		s := seat{Pipeline: path.Pipeline, Replica: path.Replica}
		if h, err := e.find(path.Pipeline, path.Replica); err == nil {
			s.Journal = h.spills
			guard := h.guard.Status()
			s.Steady = path.Attached && path.Status.Storm == nil && path.Status.Reason == "" &&
				guard.Level == report.LevelNormal && guard.Override == report.OverrideNone &&
				!slices.ContainsFunc(path.Status.Lanes, func(l report.LaneStatus) bool {
					return l.State != lane.StateRunning && l.State != lane.StatePaused
				})
		}
		all = append(all, s)
	}
	return all, host.Draining()
}

// replicas tells Replica workflows through Temporal.
type replicas struct {
	client    client.Client
	namespace string
}

// holderGone implements placing. The workflow may be cached by the very process that is gone; it is handed to the others first.
func (r replicas) holderGone(ctx context.Context, pipeline string, replica int, in contract.HolderGone) error {
	id := contract.ReplicaID(pipeline, replica)
	if _, err := r.client.WorkflowService().ResetStickyTaskQueue(ctx, &workflowservice.ResetStickyTaskQueueRequest{
		Namespace: r.namespace, Execution: &commonpb.WorkflowExecution{WorkflowId: id},
	}); err != nil {
		return err
	}
	_, err := r.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: id, UpdateName: contract.UpdateHolderGone, Args: []any{in}, WaitForStage: client.WorkflowUpdateStageAccepted,
	})
	return err
}

// handOver implements placing.
func (r replicas) handOver(ctx context.Context, pipeline string, replica int, in contract.HandOver,
) (receipt contract.PlaceReceipt, err error) {
	handle, err := r.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		WorkflowID: contract.ReplicaID(pipeline, replica), UpdateName: contract.UpdateHandOver, Args: []any{in},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err != nil {
		return receipt, err
	}
	return receipt, handle.Get(ctx, &receipt)
}
