package workflows

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"millrace/activities"
	"millrace/internal/contract"
)

// degrade sets or lifts an override on all workers. It is desired state: whoever runs a hot path or closes windows later takes it from
// there. The processes that run hot paths now are told at once and directly, since it may be Redis that is about to go.
func (p *pipeline) degrade(ctx workflow.Context, req contract.DegradeRequest) (*contract.Receipt, error) {
	o := order{contract.UpdateDegrade, req, req.Reason, req.ExpectGeneration, true}
	return p.command(ctx, o, func(ctx workflow.Context, r *contract.Receipt) error {
		p.state.Orders = req.Ordered(p.state.Orders, "update "+r.RequestID, workflow.Now(ctx))
		p.show(ctx)
		telling := ordering{p: p, generation: p.state.Generation + 1, lift: req.Lifted()}
		for _, c := range p.replicas {
			telling.tell(ctx, c.state.Queue, c.state.Worker)
		}
		written, err := p.write(ctx, o.wait(r, "", "the command is answered; it stands, and is written as soon as Redis answers"),
			contract.WritePatience, contract.DesiredChange{RequestID: r.RequestID, Orders: &p.state.Orders})
		switch {
		case err == nil:
			r.Generation = written.Generation
		case ctx.Err() != nil || isFinal(err):
			return err
		default:
			p.owe(r, err)
		}
		for _, queue := range written.Queues {
			telling.tell(ctx, queue, "")
		}
		r.Levels = telling.answers(ctx)
		r.Applied = err == nil && !slices.ContainsFunc(r.Levels, func(l contract.OrderedLevel) bool { return l.Problem != "" })
		return ctx.Err()
	})
}

// ordering tells each process once about the orders in force.
type ordering struct {
	p          *pipeline
	generation int64
	lift       []string
	queues     []string
	workers    []string
	told       []workflow.Future
}

func (t *ordering) tell(ctx workflow.Context, queue, worker string) {
	if queue == "" || slices.Contains(t.queues, queue) {
		return
	}
	options := contract.DecideOptions(queue)
	options.Summary = summary("override levels: " + worker)
	var degrading *activities.Degrading
	t.queues, t.workers = append(t.queues, queue), append(t.workers, worker)
	t.told = append(t.told, workflow.ExecuteActivity(workflow.WithActivityOptions(ctx, options), degrading.OrderLevels,
		contract.OrderLevelsInput{Pipeline: t.p.spec.Name, Generation: t.generation, Orders: t.p.state.Orders, Lift: t.lift}))
}

// answers waits for what the processes say. One that does not answer takes the order from the desired state.
func (t *ordering) answers(ctx workflow.Context) (all []contract.OrderedLevel) {
	for i, future := range t.told {
		var got contract.OrderedLevels
		if err := future.Get(ctx, &got); err != nil {
			worker := t.workers[i]
			if worker == "" {
				worker = t.queues[i]
			}
			all = append(all, contract.OrderedLevel{Worker: worker, Problem: contract.Cut(endText(err))})
			continue
		}
		all = append(all, got.Levels...)
	}
	return all
}
