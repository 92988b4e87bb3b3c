package app

import (
	"context"
	"maps"
	"sync"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"

	"millrace/internal/telemetry"
)

// polls notes when Temporal last answered a poll of each queue, with a task or without one: the SDK's pollers go on for ever while
// nobody answers, and say nothing of it. Safe for concurrent use.
type polls struct {
	mu   sync.Mutex
	last map[telemetry.Poll]time.Time
}

func newPolls() *polls { return &polls{last: make(map[telemetry.Poll]time.Time)} }

// intercept implements grpc.UnaryClientInterceptor.
func (p *polls) intercept(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
	opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err != nil {
		return err
	}
	switch r := req.(type) {
	case *workflowservice.PollWorkflowTaskQueueRequest:
		queue := r.GetTaskQueue().GetName()
		if normal := r.GetTaskQueue().GetNormalName(); normal != "" { // of a sticky queue
			queue = normal
		}
		p.note(queue, "workflow")
	case *workflowservice.PollActivityTaskQueueRequest:
		p.note(r.GetTaskQueue().GetName(), "activity")
	}
	return nil
}

func (p *polls) note(queue, kind string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last[telemetry.Poll{Queue: telemetry.QueueKind(queue), Type: kind}] = time.Now()
}

// all returns what was noted.
func (p *polls) all() map[telemetry.Poll]time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.last)
}
