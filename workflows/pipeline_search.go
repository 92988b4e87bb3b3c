package workflows

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"millrace/internal/contract"
)

// changeSearch: a pipeline carries search attributes, where its namespace has them.
const changeSearch = "search-attributes"

// askSearch asks, once a run, which search attributes there are. Without an answer it does without.
func (p *pipeline) askSearch(ctx workflow.Context) {
	if workflow.GetVersion(ctx, changeSearch, workflow.DefaultVersion, 1) == workflow.DefaultVersion {
		return
	}
	act := workflow.WithActivityOptions(ctx, contract.SearchOptions())
	if err := workflow.ExecuteActivity(act, p.control.SearchAttributes).Get(ctx, &p.search); err != nil {
		p.log.Info("search attributes not known", "error", err)
		return
	}
	if update, ok := p.search.Pipeline(p.spec.Name); ok {
		p.upsert(ctx, update)
	}
	p.showSearch(ctx)
}

// showSearch writes the search attributes when what they hold has changed.
func (p *pipeline) showSearch(ctx workflow.Context) {
	open := int64(0)
	for _, c := range p.state.Attached {
		if strings.HasPrefix(c.ID, contract.RecoverLanesPrefix(p.spec.Name)) {
			open += int64(len(c.Waits) + c.MoreWaits)
		}
		for _, found := range contract.ChildConditions(p.spec.Name, false, c) {
			if found.Kind == contract.ConditionRecountDiffers {
				open++
			}
		}
	}
	updates := p.search.Standing(p.phase, open)
	if found := fmt.Sprint(p.phase, open); len(updates) > 0 && found != p.found {
		p.found = found
		p.upsert(ctx, updates...)
	}
}

func (p *pipeline) upsert(ctx workflow.Context, updates ...temporal.SearchAttributeUpdate) {
	if err := workflow.UpsertTypedSearchAttributes(ctx, updates...); err != nil {
		p.log.Warn("search attributes not written", "error", err)
	}
}

// inherited are the search attributes that a workflow gives to its children: what says that they belong to the same pipeline.
func inherited(ctx workflow.Context) temporal.SearchAttributes {
	key := temporal.NewSearchAttributeKeyKeyword(contract.SearchPipeline)
	if of, ok := workflow.GetTypedSearchAttributes(ctx).GetKeyword(key); ok {
		return temporal.NewSearchAttributes(key.ValueSet(of))
	}
	return temporal.SearchAttributes{}
}
