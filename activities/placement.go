package activities

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// Placement answers where a replica should run.
type Placement struct {
	host  *Host
	beats Heartbeats
}

// NewPlacement returns the activities that place hot paths on this process.
func NewPlacement(host *Host, beats Heartbeats) *Placement {
	return &Placement{host: host, beats: beats}
}

// A process leaves a claim to others twice for every hot path of the pipeline that it has, but not more often than this:
// with 0.2 s, 0.4 s and 0.8 s between tries that costs 1.4 s where there are no others.
const declinesMost = 3

// Claim answers with the holder's queue while its lease is fresh, else with this process's own. A process that cannot run the
// spec refuses at once. One that runs other replicas of the pipeline declines a few times first, so that an emptier one can
// answer; not when the replica ran before, because then lanes wait.
func (a *Placement) Claim(ctx context.Context, in contract.ClaimInput) (*contract.Claimed, error) {
	if in.Offer {
		return a.offered(in)
	}
	lease, found, err := a.host.leases.ReadLease(ctx, in.Pipeline, in.Replica)
	if err != nil {
		return nil, err
	}
	if found {
		return &contract.Claimed{Worker: lease.Worker, Queue: lease.Queue, Held: true}, nil
	}
	if a.host.isDraining() {
		return nil, movedError("this worker stops; another one may answer")
	}
	if err := a.host.capable(in.Spec); err != nil {
		return a.refuse(ctx, in, err)
	}
	if n := a.host.count(in.Pipeline, in.Replica); !in.Moving && attemptNumber(ctx) <= min(2*n, declinesMost) {
		return nil, declined(contract.ErrorBusy, 0, "worker %s runs %d hot paths of %s; another one may have fewer",
			a.host.worker, n, in.Pipeline)
	}
	a.host.promise(tenantKey{in.Pipeline, in.Replica})
	return &contract.Claimed{Worker: a.host.worker, Queue: a.host.queue}, nil
}

// offered answers whether this process would run a hot path that runs elsewhere.
func (a *Placement) offered(in contract.ClaimInput) (*contract.Claimed, error) {
	if a.host.isDraining() {
		return nil, declined(contract.ErrorIncapable, 0, "worker %s stops", a.host.worker)
	}
	if err := a.host.capable(in.Spec); err != nil {
		return nil, declined(contract.ErrorIncapable, 0, "worker %s: %v", a.host.worker, err)
	}
	a.host.promise(tenantKey{in.Pipeline, in.Replica})
	return &contract.Claimed{Worker: a.host.worker, Queue: a.host.queue}, nil
}

// capable returns why this process can never run a spec. An empty one is of a workflow that does not ask.
func (h *Host) capable(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	s, err := parse(raw)
	if err != nil {
		return fmt.Errorf("its version does not know this spec, it may be older: %w", err)
	}
	return h.engines.Capable(s)
}

// Refusals: how often each worker is asked before the claim says that none can run the spec, how long one that has not been
// heard of again still counts, and the pauses between tries, quick ones first, so that a fleet in which one of many can is
// asked within a second or two.
const (
	refusalsEach   = 3
	refusalLasts   = time.Minute
	refusalsQuick  = 20 // tries
	refusalPause   = 100 * time.Millisecond
	refusalPauseOn = 2 * time.Second
)

// refuse leaves the claim to another worker. What workers have said travels from try to try in the details of the heartbeat. When
// all that answer have refused a few times, and that is news, the claim returns with their reasons; otherwise it goes on.
func (a *Placement) refuse(ctx context.Context, in contract.ClaimInput, reason error) (*contract.Claimed, error) {
	var known []contract.Refusal
	if activity.HasHeartbeatDetails(ctx) {
		_ = activity.GetHeartbeatDetails(ctx, &known) // without them it takes a few tries more
	}
	known = withRefusal(known, a.host.worker, contract.Cut(reason.Error()), time.Now())
	if !slices.ContainsFunc(known, func(r contract.Refusal) bool { return r.Times < refusalsEach }) && !sameRefusals(known, in.Refused) {
		return &contract.Claimed{Refused: known}, nil
	}
	limited, cancel := context.WithTimeout(ctx, beatLimit)
	defer cancel()
	_ = a.beats.RecordActivityHeartbeat(limited, activity.GetInfo(ctx).TaskToken, known)
	pause := refusalPause
	if attemptNumber(ctx) > refusalsQuick {
		pause = refusalPauseOn
	}
	return nil, declined(contract.ErrorIncapable, pause, "worker %s: %v", a.host.worker, reason)
}

// declined leaves a claim to another process, which is no failure that anybody should be told of. again is when it is tried again, 0 for
// what the retry policy says.
func declined(kind string, again time.Duration, format string, args ...any) error {
	return temporal.NewApplicationErrorWithOptions(fmt.Sprintf(format, args...), kind, temporal.ApplicationErrorOptions{
		NextRetryDelay: again, Category: temporal.ApplicationErrorCategoryBenign,
	})
}

// withRefusal adds a worker's refusal and drops those of workers that have not been heard of for a while.
func withRefusal(known []contract.Refusal, worker, reason string, now time.Time) []contract.Refusal {
	times := 1
	known = slices.DeleteFunc(known, func(r contract.Refusal) bool {
		if r.Worker == worker && r.Reason == reason {
			times = min(r.Times+1, refusalsEach)
		}
		return r.Worker == worker || now.Sub(r.At) > refusalLasts
	})
	known = append(known, contract.Refusal{Worker: worker, Reason: reason, Times: times, At: now})
	return known[max(0, len(known)-contract.MaxRefusals):]
}

// sameRefusals reports whether two lists name the same workers with the same reasons.
func sameRefusals(a, b []contract.Refusal) bool {
	has := func(list []contract.Refusal, r contract.Refusal) bool {
		return slices.ContainsFunc(list, func(o contract.Refusal) bool { return o.Worker == r.Worker && o.Reason == r.Reason })
	}
	for _, r := range a {
		if !has(b, r) {
			return false
		}
	}
	return len(a) == len(b)
}
