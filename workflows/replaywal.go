package workflows

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// ReplayWAL settles what a pipeline's commits have left in the journal of one disk, segment by segment: what still follows its
// lane's state is drained into Redis, what another owner has overtaken is recorded as superseded. It asks the operator about what
// cannot be read, leaves lanes that run on that disk to drain themselves, and ends when nothing is left to do.
func ReplayWAL(ctx workflow.Context, in contract.ReplayWALInput) (*contract.ReplayWALResult, error) {
	r, err := newReplay(ctx, in)
	if err != nil {
		return nil, err
	}
	return r.run(ctx)
}

type replay struct {
	in        contract.ReplayWALInput
	state     contract.ReplayWALState
	started   time.Time
	log       log.Logger
	replaying *activities.Replaying
	pipeline  outsider

	phase    string
	note     string
	segments []contract.SegmentStatus
	live     []report.WALChain
	kept     []report.WALChain
	done     int64 // segments in this run
	corrupt  *report.CorruptRange
	choice   string // of the decision about it
	leaving  bool
}

func newReplay(ctx workflow.Context, in contract.ReplayWALInput) (*replay, error) {
	r := &replay{in: in, started: workflow.Now(ctx), log: workflow.GetLogger(ctx), phase: contract.StateReplaying}
	r.pipeline = outsider{parent: parent{id: contract.PipelineID(in.Pipeline)}, told: in.State != nil}
	if err := r.check(ctx); err != nil {
		return nil, err
	}
	if in.State != nil {
		r.state = *in.State
	} else {
		r.state.Began, r.state.Host = r.started, in.Host
	}
	if err := workflow.SetQueryHandlerWithOptions(ctx, contract.QueryStatus, r.status,
		workflow.QueryHandlerOptions{Description: "segments, totals, and what cannot be read"}); err != nil {
		return nil, err
	}
	return r, workflow.SetUpdateHandlerWithOptions(ctx, contract.UpdateDecide, r.decide, workflow.UpdateHandlerOptions{
		Validator: r.admit, Description: "choose what happens to what cannot be read: quarantine or abort",
	})
}

func (r *replay) check(ctx workflow.Context) error {
	if r.in.Wrong != "" {
		return invalid(contract.ErrorInvalidInput, "replay-wal: %s", r.in.Wrong)
	}
	if r.in.State == nil && len(r.in.Unknown) > 0 {
		return invalid(contract.ErrorInvalidInput, "unknown field %q; want pipeline, disk and, if you like, bytes_per_second and host",
			strings.Join(r.in.Unknown, ", "))
	}
	if r.in.Pipeline == "" || r.in.Disk == "" {
		return invalid(contract.ErrorInvalidInput,
			`pipeline and disk are needed, as in {"pipeline":"orders","disk":"<id>"}; millrace wal ls DIR shows the id`)
	}
	if b := r.in.BytesPerSecond; b < 0 || b > contract.MaxBytesPerSecond {
		return invalid(contract.ErrorInvalidInput, "bytes_per_second is %d; want 0 (no limit) to %d", b, contract.MaxBytesPerSecond)
	}
	if id := workflow.GetInfo(ctx).WorkflowExecution.ID; id != contract.ReplayWALID(r.in.Pipeline, r.in.Disk) {
		return invalid(contract.ErrorInvalidInput, "workflow id is %q; the input makes it %q", id,
			contract.ReplayWALID(r.in.Pipeline, r.in.Disk))
	}
	return nil
}

func (r *replay) run(ctx workflow.Context) (*contract.ReplayWALResult, error) {
	r.show(ctx)
	again, err := r.replay(ctx)
	r.leaving = !again
	lasting, _ := workflow.NewDisconnectedContext(ctx)
	if waiting := handlersFinished(lasting); waiting != nil {
		return nil, waiting
	}
	if again {
		err = cancelledLate(ctx)
	}
	switch {
	case err != nil:
		r.pipeline.tellOver(lasting, err.Error())
		return nil, err
	case again:
		state := r.state
		state.Runs++
		next := r.in
		next.Version, next.State = contract.Version, &state
		return nil, workflow.NewContinueAsNewError(ctx, ReplayWAL, next)
	}
	result := &contract.ReplayWALResult{
		Pipeline: r.in.Pipeline, Disk: r.in.Disk, Host: r.state.Host, Outcome: contract.OutcomeDrained, Began: r.state.Began,
		Ended: workflow.Now(ctx), Segments: r.state.Segments, Totals: r.totals(), Decisions: r.state.Receipts,
	}
	if r.choice == contract.ChoiceAbort {
		result.Outcome, result.Note = contract.OutcomeAborted, "the journal was left as it is from "+rangeText(r.corrupt)
	}
	r.phase, r.note = contract.StateDone, result.Note
	r.show(ctx)
	r.pipeline.tellOver(lasting, result.Outcome)
	return result, nil
}

const (
	waitFirst = 5 * time.Second
	waitMost  = time.Minute
)

// replay lists the journal, settles what is there, and lists it again until nothing is left. again is true when the run should be
// continued as new.
func (r *replay) replay(ctx workflow.Context) (again bool, err error) {
	from := 0 // chains passed over
	for after := waitFirst; ; {
		if r.due(ctx) {
			return true, nil
		}
		listing, again, err := r.list(ctx, from)
		if again || err != nil {
			return again, err
		}
		if from == 0 {
			r.segments, r.live, r.kept = nil, nil, nil
		}
		batches := r.sort(listing)
		for _, b := range batches {
			if r.due(ctx) {
				return true, nil
			}
			if again, err := r.segment(ctx, b); again || err != nil || r.choice == contract.ChoiceAbort {
				return again, err
			}
			after = waitFirst
		}
		switch {
		case len(batches) > 0:
			from = 0
		case listing.More > 0:
			from += len(listing.Chains)
		case len(r.live) == 0:
			return false, nil
		default:
			from = 0
			r.set(ctx, contract.StateWaiting, fmt.Sprintf("%d chains are drained by their own lanes on %s", len(r.live), r.state.Host))
			if err := pause(ctx, after, r.note); err != nil {
				return false, err
			}
			after = min(2*after, waitMost)
		}
	}
}

func (r *replay) due(ctx workflow.Context) bool {
	return r.done >= contract.SegmentsPerRun || runIsLong(ctx, r.started)
}

// batch is the chains that begin in one segment and are to be settled.
type batch struct {
	segment string
	chains  []report.ChainRef
	at      int // its row in the status
}

// sort splits a listing into what is to be settled, segment by segment, what lanes drain themselves, and what stays for a while.
func (r *replay) sort(listing contract.WALListing) (batches []batch) {
	row := func(segment string) int {
		for i := range r.segments {
			if r.segments[i].Segment == segment {
				return i
			}
		}
		r.segments = append(r.segments, contract.SegmentStatus{Segment: segment, State: contract.SegmentDone})
		return len(r.segments) - 1
	}
	for _, c := range listing.Chains {
		i := row(c.Segment)
		s := &r.segments[i]
		s.Chains++
		s.Commits += c.Commits
		s.Bytes += c.Bytes
		switch {
		case c.Live:
			r.live = append(r.live, c)
			continue
		case c.Settled != "" || r.outcome(c.ChainRef) != "":
			s.Settled++
			if c.Settled == report.ChainSuperseded || r.outcome(c.ChainRef) == report.ChainSuperseded {
				r.kept = append(r.kept, c)
			}
			continue
		}
		s.State = contract.SegmentWaiting
		n := slices.IndexFunc(batches, func(b batch) bool { return b.at == i })
		if n < 0 {
			batches, n = append(batches, batch{segment: c.Segment, at: i}), len(batches)
		}
		batches[n].chains = append(batches[n].chains, c.ChainRef)
	}
	return batches
}

func (r *replay) outcome(chain report.ChainRef) string {
	for _, s := range r.state.Settled {
		if s.ChainRef == chain {
			return s.Outcome
		}
	}
	return ""
}

func (r *replay) list(ctx workflow.Context, from int) (listing contract.WALListing, again bool, err error) {
	again, err = r.onDisk(ctx, func() error {
		options := contract.ListChainsOptions(r.in.Disk)
		options.Summary = "what " + r.in.Pipeline + " has in the journal"
		return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.replaying.ListChains,
			contract.ListChainsInput{Pipeline: r.in.Pipeline, From: from}).Get(ctx, &listing)
	})
	if err == nil && !again {
		r.state.Host, r.state.Commits = listing.Host, listing.Commits
	}
	return listing, again, err
}

// onDisk runs an activity on the disk's queue. While nobody polls it, it waits and tries again, for WALPatience.
func (r *replay) onDisk(ctx workflow.Context, run func() error) (again bool, err error) {
	for {
		err := run()
		switch {
		case err == nil:
			r.state.Gone = nil
			if r.phase == contract.StateHostGone {
				r.set(ctx, contract.StateReplaying, "")
			}
			return false, nil
		case ctx.Err() != nil:
			return false, ctx.Err()
		case !notStarted(err):
			return false, err
		}
		now := workflow.Now(ctx)
		if r.state.Gone == nil {
			r.state.Gone = &now
		}
		if now.Sub(*r.state.Gone) >= contract.WALPatience {
			return false, temporal.NewNonRetryableApplicationError(fmt.Sprintf("WAL of host %s holds %s; nobody has polled %s since %s. "+
				"Start a worker with that WAL directory, then start this workflow again",
				r.host(), r.holds(), contract.DiskQueue(r.in.Disk), stamp(*r.state.Gone)),
				contract.ErrorWALGone, nil)
		}
		r.set(ctx, contract.StateHostGone,
			fmt.Sprintf("nobody polls %s since %s: host %s, which holds %s, must come back with its WAL directory",
				contract.DiskQueue(r.in.Disk), stamp(*r.state.Gone), r.host(), r.holds()))
		if err := pause(ctx, contract.HostLookEvery, r.note); err != nil {
			return false, err
		}
		if r.due(ctx) {
			return true, nil
		}
	}
}

func (r *replay) host() string {
	if r.state.Host == "" {
		return "of disk " + r.in.Disk
	}
	return r.state.Host
}

func (r *replay) holds() string {
	if r.state.Commits == 0 {
		return "an unknown number of commits"
	}
	return fmt.Sprintf("%d commits", r.state.Commits)
}

// segment settles one segment's chains, asking about each part that cannot be read.
func (r *replay) segment(ctx workflow.Context, b batch) (again bool, err error) {
	in := contract.ReplaySegmentInput{
		Pipeline: r.in.Pipeline, Segment: b.segment, Chains: b.chains, BytesPerSecond: r.in.BytesPerSecond,
		Quarantine: r.quarantined(b.chains),
	}
	r.segments[b.at].State = contract.SegmentReplaying
	r.set(ctx, contract.StateReplaying, "")
	for {
		var result contract.ReplaySegmentResult
		again, err := r.onDisk(ctx, func() error {
			result = contract.ReplaySegmentResult{}
			options := contract.ReplaySegmentOptions(r.in.Disk)
			options.Summary = fmt.Sprintf("segment %s: %d chains of %s", b.segment, len(in.Chains), r.in.Pipeline)
			return workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), r.replaying.ReplaySegment, in).Get(ctx, &result)
		})
		if again || err != nil {
			return again, err
		}
		r.take(b, result)
		in.Chains = slices.DeleteFunc(slices.Clone(in.Chains), func(c report.ChainRef) bool {
			return r.outcome(c) != "" || slices.Contains(result.Live, c)
		})
		if result.Corrupt == nil {
			r.segments[b.at].State = contract.SegmentDone
			r.state.Segments++
			r.done++
			r.show(ctx)
			return false, nil
		}
		r.segments[b.at].State = contract.SegmentCorrupt
		if err := r.ask(ctx, result.Corrupt); err != nil || r.choice == contract.ChoiceAbort {
			return false, err
		}
		r.state.Quarantine = append(r.state.Quarantine, result.Corrupt.ChainRef)
		in.Quarantine = r.quarantined(in.Chains)
		r.segments[b.at].State = contract.SegmentReplaying
		r.set(ctx, contract.StateReplaying, "")
	}
}

// quarantined returns those of the chains of which somebody has decided that what cannot be read is set aside. The decision stands
// until the chain is settled, also in later runs.
func (r *replay) quarantined(chains []report.ChainRef) []report.ChainRef {
	return slices.DeleteFunc(slices.Clone(chains), func(c report.ChainRef) bool { return !slices.Contains(r.state.Quarantine, c) })
}

// take books what became of chains.
func (r *replay) take(b batch, result contract.ReplaySegmentResult) {
	for _, c := range result.Settled {
		if r.outcome(c.ChainRef) != "" {
			continue
		}
		if c.Outcome == report.ChainDrained || c.Commits > 0 {
			r.state.Totals.Drained.Add(c.Commits, c.Entries, c.Bytes)
		}
		if over := c.Superseded; over != nil {
			r.state.Totals.Superseded.Add(over.Commits, over.Entries, over.Bytes)
		}
		if c.Quarantined > 0 {
			r.state.Totals.Quarantined.Chains++
			r.state.Totals.Quarantined.Bytes += c.Quarantined
		}
		r.segments[b.at].Settled++
		r.state.Quarantine = slices.DeleteFunc(r.state.Quarantine, func(q report.ChainRef) bool { return q == c.ChainRef })
		r.state.Settled = append(r.state.Settled, contract.SettledRef{ChainRef: c.ChainRef, Outcome: c.Outcome})
		r.state.Settled = r.state.Settled[max(0, len(r.state.Settled)-contract.MaxSettled):]
	}
}

// totals are the sums so far and what is kept on the disk, as last seen there.
func (r *replay) totals() contract.ReplayTotals {
	t := r.state.Totals
	for _, c := range r.kept {
		t.Kept.Add(c.Commits, 0, c.Bytes)
	}
	return t
}
