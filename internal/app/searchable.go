package app

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"millrace/activities"
	"millrace/internal/contract"
)

// searchLimit bounds the question which search attributes there are: a start does not wait for it.
const searchLimit = 200 * time.Millisecond

// searchable starts workflows with the search attribute of their pipeline, where the namespace has it.
type searchable struct {
	starting
	search *activities.Search
}

// ExecuteWorkflow implements starting.
func (s searchable) ExecuteWorkflow(ctx context.Context, o client.StartWorkflowOptions, workflow any, args ...any) (
	run client.WorkflowRun, err error,
) {
	err = s.with(ctx, &o, func() error {
		run, err = s.starting.ExecuteWorkflow(ctx, o, workflow, args...)
		return err
	})
	return run, err
}

// SignalWithStartWorkflow implements starting.
func (s searchable) SignalWithStartWorkflow(ctx context.Context, id, signal string, arg any, o client.StartWorkflowOptions,
	workflow any, args ...any,
) (run client.WorkflowRun, err error) {
	err = s.with(ctx, &o, func() error {
		run, err = s.starting.SignalWithStartWorkflow(ctx, id, signal, arg, o, workflow, args...)
		return err
	})
	return run, err
}

// with starts a workflow with the attribute, and without it when the namespace refuses it.
func (s searchable) with(ctx context.Context, o *client.StartWorkflowOptions, start func() error) error {
	limited, cancel := context.WithTimeout(ctx, searchLimit)
	known, err := s.search.SearchAttributes(limited)
	cancel()
	if err != nil || len(known.Names) == 0 {
		return start()
	}
	o.TypedSearchAttributes = known.Of(contract.OwnerOf(o.ID))
	err = start()
	var refused *serviceerror.InvalidArgument
	if !errors.As(err, &refused) {
		return err
	}
	s.search.Forget()
	o.TypedSearchAttributes = temporal.SearchAttributes{}
	return start()
}
