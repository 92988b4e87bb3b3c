package result

import (
	"context"

	"millrace/pipeline/survey"
)

// view is one look at the lanes, and at where their windows go.
type view struct {
	*survey.View
	resultID string // of the result topic; "" when there is none or it is not known
}

func (c *Closer) look(ctx context.Context) (*view, error) {
	lanes, err := survey.Take(ctx, survey.Config{
		Spec: c.cfg.Spec, Plan: c.plan, State: c.cfg.State, Topics: c.cfg.Kafka, Parallel: c.cfg.Parallel,
	})
	if err != nil {
		return nil, err
	}
	v := &view{View: lanes}
	if sink := c.cfg.Spec.Results.Kafka; sink != nil {
		// A topic that is not there shows when something is published.
		topic, _ := c.cfg.Kafka.Topic(ctx, sink.Topic)
		v.resultID = topic.ID
	}
	return v, nil
}
