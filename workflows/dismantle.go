package workflows

import (
	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
)

// dismantling takes an incarnation of a pipeline away, but for its fenced metas, in an order in which a worker that was frozen
// all the while finds itself fenced: first the group, then the lanes, the closers and the keys. A removal deletes the metas after
// a grace; a start that discards the state begins the lanes anew in their place.
type dismantling struct {
	pipeline string
	token    string   // of the fence
	sources  []string // topics whose partitions are lanes, found in Redis or not
	rows     bool     // the ledger stays, and its rows are given up
	own      bool     // the pipeline's own workflow asks
	step     func(ctx workflow.Context, step string, activity, input any) error
}

func (d dismantling) run(ctx workflow.Context) error {
	var removing *activities.Removing
	for _, s := range []struct {
		step            string
		activity, input any
	}{
		{contract.RemoveGroup, removing.DeleteGroup, contract.RemoveTarget{Pipeline: d.pipeline, Own: d.own}},
		{contract.RemoveFence, removing.FenceLanes, contract.FenceLanesInput{
			Pipeline: d.pipeline, Token: d.token, Sources: d.sources, Own: d.own,
		}},
		{contract.RemoveLedger, removing.EndLedger, contract.EndLedgerInput{Pipeline: d.pipeline, Rows: d.rows, Own: d.own}},
		{contract.RemoveKeys, removing.DeleteKeys, contract.DeleteKeysInput{Pipeline: d.pipeline, Own: d.own}},
	} {
		if err := d.step(ctx, s.step, s.activity, s.input); err != nil {
			return err
		}
	}
	return nil
}
