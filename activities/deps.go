package activities

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// ErrPermanent marks errors that trying again cannot mend, such as a Redis that holds another format. Implementations of the
// interfaces here wrap it; the activity then fails for good and the workflow says why.
var ErrPermanent = errors.New("trying again cannot help")

// Engines starts hot paths in this process.
type Engines interface {
	// Capable returns why this process can never run the spec, such as a journal that it has no directory for; nil when it can.
	Capable(s *spec.Spec) error
	// Start starts the hot path of a replica, or returns the one that runs. ctx bounds the start only.
	Start(ctx context.Context, s *spec.Spec, replica int) (Engine, error)
}

// Engine is a running hot path. All methods are safe for concurrent use.
type Engine interface {
	Status() contract.EngineStatus
	// Stop commits, releases all lanes and returns when that is done or ctx ends.
	Stop(ctx context.Context) error
	// Done is closed when the hot path has ended, by Stop or by itself.
	Done() <-chan struct{}
	// Err is why it ended by itself; nil before Done and after Stop.
	Err() error
	// Nudge makes it read desired state now. It does not block.
	Nudge()
}

// Lease says who runs a replica. It only avoids needless moves; ownership of lanes rests on their tokens.
type Lease struct {
	Worker string // for people
	Queue  string // host queue of the holder
	Token  string // of this stay; equality decides who holds it
}

// Leases are kept in Redis with a time to live.
type Leases interface {
	// AcquireLease claims a free or expired lease or renews one that has the same token. held is false when somebody else
	// holds it, who is the holder then.
	AcquireLease(ctx context.Context, pipeline string, replica int, lease Lease, ttl time.Duration) (holder Lease, held bool, err error)
	// ReadLease returns the holder; found is false when there is none or its time has run out.
	ReadLease(ctx context.Context, pipeline string, replica int) (lease Lease, found bool, err error)
	// ReleaseLease gives the lease up if the token holds it.
	ReleaseLease(ctx context.Context, pipeline string, replica int, token string) error
}

// DesiredStates are kept in Redis.
type DesiredStates interface {
	// Change applies a change once per request id and returns the generation that the request got.
	Change(ctx context.Context, pipeline string, change contract.DesiredChange) (generation int64, err error)
	// Read returns the desired state, with generation 0 when there is none.
	Read(ctx context.Context, pipeline string) (contract.Desired, error)
}

// Lanes knows what is durable about lanes and what waits for them.
type Lanes interface {
	// States returns one element for every partition of the source topics.
	States(ctx context.Context, s *spec.Spec) ([]contract.LaneState, error)
	// Ends returns the last stable offset of every partition of the source topics, asked of the brokers now.
	Ends(ctx context.Context, s *spec.Spec) ([]report.LaneEnd, error)
}

// Servers checks and prepares what a pipeline needs before it runs.
type Servers interface {
	// CheckStore fails with ErrPermanent when Redis can never hold this pipeline's state, or holds one that this start cannot go on
	// from. begin is nil for a start that goes on from what is there.
	CheckStore(ctx context.Context, s *spec.Spec, begin *contract.Begin) error
	// LocateBegin finds the offset of every lane where begin says.
	LocateBegin(ctx context.Context, s *spec.Spec, begin contract.Begin) (contract.Begun, error)
	// BeginLanes gives lanes without state their first one. Repeating it changes nothing.
	BeginLanes(ctx context.Context, s *spec.Spec, in contract.BeginLanesInput) error
	// EnsureTopics creates the topics the pipeline writes. Source topics must exist.
	EnsureTopics(ctx context.Context, s *spec.Spec) (contract.Topics, error)
	// RemoveMember takes a replica's static member out of the pipeline's consumer group. A member that is not there is no error.
	RemoveMember(ctx context.Context, pipeline string, replica int) error
}

// Closers hands out this process's closers, the same one to all activities of a workflow run that use it at a time.
type Closers interface {
	// Closer returns a closer to be used until done is called. What it remembers is of this run alone.
	Closer(ctx context.Context, s *spec.Spec, run string) (closer Closer, done func(), err error)
}

// Closer closes windows. Every method is idempotent and may be called concurrently, also in several processes: they fence one
// another's transactions and then try again.
type Closer interface {
	// Round examines all windows once and closes those that are due, except those to skip. An error says that the look itself
	// failed; windows that failed are in the report.
	Round(ctx context.Context, skip []report.WindowRef) (report.Round, error)
	// OpenTransaction is the one that rows have gone out in for longest, nil without one. It may be asked during all other calls.
	OpenTransaction() *report.OpenTransaction
	// Hindered takes why a look did not come about at all; nil when the next one did.
	Hindered(err error)
	// CloseOne closes one window that is due. published is false when nothing has changed since its last revision.
	CloseOne(ctx context.Context, ref report.WindowRef) (closed report.ClosedWindow, published bool, err error)
	// Emit publishes every open window as it stands. With ends, every covered offset must have reached its end.
	Emit(ctx context.Context, reason string, ends []report.LaneEnd) (report.Emitted, error)
	// CarryOut carries a job out. It takes a turn for each window, and books windows in the job's order, without those that
	// job.Report says were booked before. A *JobRefusedError is final.
	CarryOut(ctx context.Context, job contract.CarryOutJob, turn Turn, book func(contract.CarriedWindow)) error
}

// Turn runs work while no other closer of the pipeline is at work.
type Turn func(ctx context.Context, work func(context.Context) error) error

// JobRefusedError says why a job cannot be carried out, now or later.
type JobRefusedError struct{ Why string }

func (e *JobRefusedError) Error() string { return e.Why }

// ErrStale marks work that is for another life of something: a batch or an incident that is not the current one, a lane that was
// fenced or revoked, a hot path that does not run here. The activity then fails for good.
var ErrStale = errors.New("not the current one")

// Stale is an error that is ErrStale and cause, and says in text what became of what was asked about and what to do.
func Stale(cause error, format string, args ...any) error {
	return &staleError{fmt.Sprintf(format, args...), cause}
}

type staleError struct {
	text  string
	cause error
}

func (e *staleError) Error() string { return e.text }

// Unwrap returns ErrStale and the cause.
func (e *staleError) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrStale}
	}
	return []error{ErrStale, e.cause}
}

// Recoveries are the recoveries of this process's hot paths. All methods are safe for concurrent use.
type Recoveries interface {
	// RecoverStep carries out one step for all lanes of a batch, or waits for whoever does it already, and returns what is
	// recorded of it. Repeating it changes nothing. ctx bounds the wait only. Errors about something else than the current
	// batch wrap ErrStale; a lane that was fenced or revoked is no error but a state of the lane.
	RecoverStep(ctx context.Context, in contract.RecoverStepInput) (report.StepReport, error)
	// Lane returns what is known of one lane of a batch.
	Lane(pipeline string, replica int, batch int64, lane report.LaneRef) (report.RecoveredLane, bool)
	// Decide carries an operator's choice about an incident out. Repeating it is no error. An incident that is no more wraps ErrStale.
	Decide(ctx context.Context, in contract.DecideIncidentInput) error
}

// LaneTokens reads who owns lanes.
type LaneTokens interface {
	// Owners returns one element for every lane asked for, in that order.
	Owners(ctx context.Context, pipeline string, lanes []report.LaneRef) ([]contract.LaneOwner, error)
	// Runs reports whether somebody holds the lease of a replica.
	Runs(ctx context.Context, pipeline string, replica int) (bool, error)
}

// Levels are the state machines of this process's hot paths.
type Levels interface {
	// Level returns the state machine for a dependency; ok is false when the hot path does not run here.
	Level(pipeline string, replica int, dependency string) (l Level, ok bool)
	// OrderLevels gives all state machines of a pipeline the orders in force, and returns where they stand then. Orders of an
	// earlier generation than one that was seen are passed over.
	OrderLevels(in contract.OrderLevelsInput) []contract.OrderedLevel
}

// Level is one state machine. It alone decides and probes; the control plane watches it and sets overrides.
type Level interface {
	LevelStatus() report.LevelStatus
	// Changes returns the changes with a higher seq, oldest first, as far as they are still known.
	Changes(after int64) []report.LevelChange
	// Await returns the changes with a higher seq once there is one, or the error of ctx.
	Await(ctx context.Context, after int64) ([]report.LevelChange, error)
	// Override sets an override, or lifts the one in force with report.OverrideNone.
	Override(override report.Override, by, reason string) error
}

// Journal is this process's WAL directory.
type Journal interface {
	// Disk is the id of the directory.
	Disk() string
	// List returns what the journal holds of a pipeline, oldest first. A corrupt range does not make it fail.
	List(ctx context.Context, pipeline string) ([]report.WALChain, error)
	// Settle drains a chain into the store, or finds it superseded and leaves it. What was settled before is not done again. What
	// cannot be read is a *CorruptError, unless it is to be quarantined. progress may be called at any time before it
	// returns, not concurrently. A chain whose lane runs here is ErrLive.
	Settle(ctx context.Context, pipeline string, chain report.ChainRef, how Settling, progress func(Settled),
	) (report.SettledChain, error)
	// Accounts are the books since the process began.
	Accounts(pipeline string) (report.JournalAccounts, error)
}

// Settling says how to settle a chain.
type Settling struct {
	Quarantine     bool  // set what cannot be read aside and go on behind it
	BytesPerSecond int64 // 0: no limit
}

// Settled is how far a chain is.
type Settled struct {
	Place   string
	Records int64
	Bytes   int64
}

// ErrLive is Settle's answer about a chain that its lane drains itself.
var ErrLive = errors.New("its lane runs here and drains it itself")

// CorruptError says what cannot be read of a journal.
type CorruptError struct{ Range report.CorruptRange }

func (e *CorruptError) Error() string {
	return fmt.Sprintf("segment %s, bytes [%d, %d): %s", e.Range.Segment, e.Range.From, e.Range.To, e.Range.Detail)
}

// parse reads the spec an activity was given. A workflow has parsed it before, so a failure is final.
func parse(raw []byte) (*spec.Spec, error) {
	s, err := spec.Parse("spec", raw)
	if err != nil {
		return nil, temporal.NewNonRetryableApplicationError(err.Error(), contract.ErrorInvalidSpec, nil)
	}
	return s, nil
}

// final makes errors that wrap ErrPermanent, ErrRefused or ErrStale non-retryable.
func final(err error) error {
	if errors.Is(err, ErrPermanent) {
		return temporal.NewNonRetryableApplicationError(withoutMark(err, ErrPermanent), contract.ErrorPermanent, err)
	}
	if errors.Is(err, ErrRefused) {
		return temporal.NewNonRetryableApplicationError(withoutMark(err, ErrRefused), contract.ErrorRefused, err)
	}
	if errors.Is(err, ErrStale) {
		return temporal.NewNonRetryableApplicationError(err.Error(), contract.ErrorStale, err)
	}
	return err
}

// withoutMark is an error's text without the mark in front of it: the type of the activity's error says the same, and whoever reads the
// message wants the reason.
func withoutMark(err, mark error) string { return strings.TrimPrefix(err.Error(), mark.Error()+": ") }

func movedError(what string) error {
	return temporal.NewApplicationErrorWithOptions(what, contract.ErrorMoved, temporal.ApplicationErrorOptions{
		NextRetryDelay: time.Millisecond, Category: temporal.ApplicationErrorCategoryBenign,
	})
}

// typed returns an error of one of the contract's kinds. Those by which workers hand work to each other are benign: they are
// no failures, and neither logged nor counted as such.
func typed(kind, format string, args ...any) error {
	category := temporal.ApplicationErrorCategoryBenign
	if kind == contract.ErrorEngineFailed {
		category = temporal.ApplicationErrorCategoryUnspecified
	}
	return temporal.NewApplicationErrorWithOptions(fmt.Sprintf(format, args...), kind, temporal.ApplicationErrorOptions{Category: category})
}
