package dev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"go.temporal.io/api/namespace/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
)

const readyPoll = 100 * time.Millisecond

// awaitReady returns when the server answers for the namespace, with the retention asked for.
func (t *Temporal) awaitReady(ctx context.Context, cfg TemporalConfig) error {
	conn, err := grpc.NewClient(t.addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	service := workflowservice.NewWorkflowServiceClient(conn)
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for {
		err := t.prepareNamespace(ctx, service, cfg)
		if err == nil {
			return nil
		}
		select {
		case <-t.child.done:
			return fmt.Errorf("the server ended at once (is another one using its ports or its database?): %w", childError(t.child.err))
		case <-ctx.Done():
			return fmt.Errorf("the server was not ready in time (%w): %w", ctx.Err(), err)
		case <-poll.C:
		}
	}
}

// childError is how a child ended that should not have.
func childError(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// prepareNamespace makes closed workflows visible for as long as cfg says and asks one question that needs all of the
// server's parts.
func (t *Temporal) prepareNamespace(ctx context.Context, service workflowservice.WorkflowServiceClient, cfg TemporalConfig) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	found, err := service.DescribeNamespace(ctx, &workflowservice.DescribeNamespaceRequest{Namespace: cfg.Namespace})
	if err != nil {
		return err
	}
	retention := durationpb.New(time.Duration(cfg.RetentionDays) * 24 * time.Hour)
	if found.GetConfig().GetWorkflowExecutionRetentionTtl().AsDuration() != retention.AsDuration() {
		_, err := service.UpdateNamespace(ctx, &workflowservice.UpdateNamespaceRequest{
			Namespace: cfg.Namespace,
			Config:    &namespace.NamespaceConfig{WorkflowExecutionRetentionTtl: retention},
		})
		if err != nil {
			return err
		}
	}
	_, err = service.ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: cfg.Namespace, PageSize: 1})
	var unready *serviceerror.NamespaceNotFound
	if errors.As(err, &unready) {
		return fmt.Errorf("namespace %q is not known yet: %w", cfg.Namespace, err)
	}
	return err
}

// choosePorts replaces every 0 by a free port; all are different.
func choosePorts(ctx context.Context, ports ...int) ([]int, error) {
	listen := &net.ListenConfig{}
	for i, port := range ports {
		if port != 0 {
			continue
		}
		ln, err := listen.Listen(ctx, "tcp", loopback+":0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer ln.Close()
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports, nil
}

// temporalEnv leaves out what would make the CLI read its user's own profile or address another server.
func temporalEnv(environ []string) []string {
	var kept []string
	for _, entry := range environ {
		if !strings.HasPrefix(entry, "TEMPORAL_") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// tailWriter keeps the end of what is written to it, for an error message.
type tailWriter struct {
	mu   sync.Mutex
	kept []byte
}

const tailBytes = 400

func (w *tailWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.kept = append(w.kept, p...)
	if len(w.kept) > tailBytes {
		w.kept = append(w.kept[:0], w.kept[len(w.kept)-tailBytes:]...)
	}
	return len(p), nil
}

// String is the tail on one line.
func (w *tailWriter) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.kept) == 0 {
		return "nothing"
	}
	return strings.Join(strings.Fields(string(w.kept)), " ")
}
