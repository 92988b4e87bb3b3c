package workflows

import (
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

// handledUpdate is an update that a workflow takes. The validator decides whether a request enters the history.
type handledUpdate struct {
	name, description  string
	handler, validator any
}

// handleUpdates sets the handlers of a workflow's updates, in their order.
func handleUpdates(ctx workflow.Context, updates []handledUpdate) error {
	for _, u := range updates {
		if err := workflow.SetUpdateHandlerWithOptions(ctx, u.name, u.handler, workflow.UpdateHandlerOptions{
			Validator: u.validator, Description: u.description,
		}); err != nil {
			return err
		}
	}
	return nil
}

// checkSpecOf refuses the spec in an input unless it is valid and describes the pipeline. An input without one is fine.
func checkSpecOf(pipeline string, given []byte) error {
	if len(given) == 0 {
		return nil
	}
	//workflowcheck:ignore parsing reads nothing but its argument
	s, err := spec.Parse("spec", given)
	switch {
	case err != nil:
		return invalid(contract.ErrorInvalidSpec, "%v", err)
	case s.Name != pipeline:
		return invalid(contract.ErrorInvalidInput, "the spec describes pipeline %q, not %q", s.Name, pipeline)
	}
	return nil
}
