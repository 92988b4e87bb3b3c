package result

import (
	"cmp"
	"context"
	"sync"

	"millrace/pipeline/ledger"
	"millrace/pipeline/parallel"
	"millrace/pipeline/publish"
	"millrace/pipeline/store"
	"millrace/pipeline/survey"
)

// view is one look at the lanes, and at where their windows go.
type view struct {
	*survey.View
	topics    publish.TopicIDs // of the topics that contents go to
	ledgerID  string           // of the ledger topic; "" when it is not known
	takeOvers []int64          // by slot, those after which the lanes were still those of the view

	readTraces sync.Once
	traces     []store.SliceTrace // of records in the lanes' slices, valid after readTraces
}

// opened is the view under which a window of a slot is merged: the same look, with what the lanes
// that keep a share of the window in pages have committed since. That is proved for itself, and v
// for itself.
func (v *view) opened(lanes *survey.View, slot int) *view {
	takeOvers := make([]int64, len(v.takeOvers)) // those of other slots may be noted just now, and are of no use here
	takeOvers[slot] = v.takeOvers[slot]
	return &view{View: lanes, topics: v.topics, ledgerID: v.ledgerID, takeOvers: takeOvers}
}

// incarnation tells one life of a pipeline from those before and after it.
type incarnation struct {
	ledgerID string
	edition  int
}

// begin takes the look that a round, a flush or a drain begins with. A pipeline that was removed
// and begun anew while the closer was frozen is recognised, and what was remembered of the old one
// is forgotten. c.turn is held.
func (c *Closer) begin(ctx context.Context) (*view, error) {
	if now := c.cfg.Now(); now.Sub(c.began) > publish.LedgerTrust {
		err := parallel.Do(ctx, c.cfg.Parallel, len(c.slots), func(ctx context.Context, i int) error { return c.slots[i].ReadOn(ctx) })
		if err != nil {
			return nil, err
		}
		c.began = now
	}
	v, err := c.look(ctx)
	if err != nil {
		return nil, err
	}
	c.began = c.cfg.Now()
	c.recognise(v.ledgerID)
	return v, nil
}

// recognise notices a pipeline that was removed and begun anew, by the id of its ledger topic, ""
// when it is not known, and by what the slots have read. What was remembered of the one before is
// forgotten. c.turn is held.
func (c *Closer) recognise(ledgerID string) {
	if known := c.known.ledgerID; known != "" && ledgerID != "" && known != ledgerID {
		for _, s := range c.slots {
			s.Forget()
		}
	}
	now := incarnation{cmp.Or(ledgerID, c.known.ledgerID), c.edition()}
	if c.known.edition > 0 && now != c.known {
		c.forget()
	}
	c.known = now
}

// forget forgets everything that rounds remember.
func (c *Closer) forget() {
	c.finality, c.prev, c.held, c.rolled = nil, nil, hold{}, rolled{}
	clear(c.states)
	clear(c.failures)
	clear(c.early)
	clear(c.shown)
}

// edition is the latest that any slot has seen.
func (c *Closer) edition() int {
	edition := 0
	for _, s := range c.slots {
		edition = max(edition, s.Edition())
	}
	return edition
}

// prove makes sure that the lanes were still those of the view after the slot was taken over. A
// removal fences the lanes first and the slots after that, so from then on whatever would make the
// view wrong fences the slot.
func (c *Closer) prove(ctx context.Context, s *publish.Held, n int, v *view) error {
	takeOvers := s.TakeOvers()
	if v.takeOvers[n] == takeOvers {
		return nil
	}
	lanes := make([]*survey.Lane, len(v.Lanes))
	for i := range lanes {
		lanes[i] = &v.Lanes[i]
	}
	if err := c.merger.Prove(ctx, lanes); err != nil {
		return err
	}
	v.takeOvers[n] = takeOvers
	return nil
}

func (c *Closer) look(ctx context.Context) (*view, error) {
	takeOvers := make([]int64, len(c.slots))
	for i, s := range c.slots {
		takeOvers[i] = s.TakeOvers()
	}
	lanes, err := survey.Take(ctx, survey.Config{
		Spec: c.cfg.Spec, Plan: c.plan, State: c.cfg.State, Topics: c.cfg.Kafka, Parallel: c.cfg.Parallel, Asked: c.asked,
	})
	if err != nil {
		return nil, err
	}
	v := &view{View: lanes, takeOvers: takeOvers}
	v.ledgerID, v.topics = c.lookAtTopics(ctx)
	return v, nil
}

// lookAtTopics asks for the ids of the ledger topic and of the topics that contents go to. One that
// is not there shows when something is published.
func (c *Closer) lookAtTopics(ctx context.Context) (ledgerID string, ids publish.TopicIDs) {
	topic, _ := c.cfg.Kafka.Topic(ctx, ledger.Topic(c.cfg.Spec.Name))
	ledgerID = topic.ID
	if sink := c.cfg.Spec.Results.Kafka; sink != nil {
		topic, _ := c.cfg.Kafka.Topic(ctx, sink.Topic)
		ids.Results = topic.ID
	}
	if len(c.cfg.Spec.Rollups) > 0 {
		topic, _ := c.cfg.Kafka.Topic(ctx, ledger.StatesTopic(c.cfg.Spec.Name))
		ids.States = topic.ID
	}
	return ledgerID, ids
}
