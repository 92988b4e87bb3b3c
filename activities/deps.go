package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// ErrPermanent marks errors that trying again cannot mend, such as a Redis that holds another format. Implementations of the
// interfaces here wrap it; the activity then fails for good and the workflow says why.
var ErrPermanent = errors.New("trying again cannot help")

// Engines starts hot paths in this process.
type Engines interface {
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
	Ends(ctx context.Context, s *spec.Spec) ([]contract.LaneEnd, error)
}

// Servers checks and prepares what a pipeline needs before it runs.
type Servers interface {
	// CheckStore fails with ErrPermanent when Redis can never hold this pipeline's state.
	CheckStore(ctx context.Context, s *spec.Spec) error
	// EnsureTopics creates the topics the pipeline writes. Source topics must exist.
	EnsureTopics(ctx context.Context, s *spec.Spec) (contract.Topics, error)
	// RemoveMember takes a replica's static member out of the pipeline's consumer group. A member that is not there is no error.
	RemoveMember(ctx context.Context, pipeline string, replica int) error
}

// Closers hands out this process's closer of a pipeline, the same one every time.
type Closers interface {
	Closer(ctx context.Context, s *spec.Spec) (Closer, error)
}

// Closer closes windows. Every method is idempotent and may be called concurrently, also in several processes: they fence one
// another's transactions and then try again.
type Closer interface {
	// Round looks at all windows once and closes those that are due, except those to skip. An error says that the look itself
	// failed; windows that failed are in the report.
	Round(ctx context.Context, skip []contract.WindowRef) (contract.Round, error)
	// CloseOne closes one window that is due. published is false when nothing has changed since its last revision.
	CloseOne(ctx context.Context, ref contract.WindowRef) (closed contract.ClosedWindow, published bool, err error)
	// Emit publishes every open window as it stands. With ends, every covered offset must have reached its end.
	Emit(ctx context.Context, reason string, ends []contract.LaneEnd) (contract.Emitted, error)
}

// parse reads the spec an activity was given. A workflow has parsed it before, so a failure is final.
func parse(raw []byte) (*spec.Spec, error) {
	s, err := spec.Parse("spec", raw)
	if err != nil {
		return nil, temporal.NewNonRetryableApplicationError(err.Error(), contract.ErrorInvalidSpec, nil)
	}
	return s, nil
}

// final makes errors that wrap ErrPermanent non-retryable.
func final(err error) error {
	if errors.Is(err, ErrPermanent) {
		return temporal.NewNonRetryableApplicationError(err.Error(), contract.ErrorPermanent, err)
	}
	return err
}

func movedError(what string) error {
	return temporal.NewApplicationErrorWithOptions(what, contract.ErrorMoved, temporal.ApplicationErrorOptions{
		NextRetryDelay: time.Millisecond,
	})
}

func typed(kind, format string, args ...any) error {
	return temporal.NewApplicationError(fmt.Sprintf(format, args...), kind)
}
