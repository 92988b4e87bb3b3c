package result

import (
	"sync/atomic"
	"time"

	"millrace/pipeline/stage"
)

// taskTimes is what closing windows took, of all that were closed at one time together: a round's own time is divided by it.
type taskTimes struct{ merge, publish, show atomic.Int64 }

// take returns the times and begins anew.
func (t *taskTimes) take() []stage.Part {
	return []stage.Part{
		{Stage: stage.Merge, Weight: time.Duration(t.merge.Swap(0))},
		{Stage: stage.Publish, Weight: time.Duration(t.publish.Swap(0))},
		{Stage: stage.Show, Weight: time.Duration(t.show.Swap(0))},
	}
}

// Times says where the time of rounds has gone, and that between them.
func (c *Closer) Times() stage.Account { return c.clock.Account() }
