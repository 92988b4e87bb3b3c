package shadow

import (
	"context"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

const (
	// lagAfter is how long ago an end of a log was asked for that a live lane has to have reached by now.
	lagAfter = 5 * time.Second

	// goneAfter is for how long a lane that lags may commit nothing before it is not waited for: nobody runs it, or it waits
	// for something that a shadow does not take from it. A lane that runs commits every second.
	goneAfter = 30 * time.Second
)

// LiveState is what is read of the pipeline's own lanes; *store.Store is one.
type LiveState interface {
	Metas
	PipelineCtl(ctx context.Context, pipeline string) (store.PipelineCtl, error)
}

// Live watches whether the lanes of the pipeline keep up: a shadow must not take from them. It is not safe for concurrent
// use.
type Live struct {
	pipeline string
	cluster  Cluster
	state    LiveState
	tps      []source.TopicPartition
	now      func() time.Time
	asked    []askedEnds // the oldest first
	moved    map[source.TopicPartition]move
}

// move is a commit of a lane.
type move struct {
	owner  store.Token
	cursor store.Cursor
	at     time.Time // when it was seen first
}

// askedEnds are the ends of the logs as of one moment.
type askedEnds struct {
	at   time.Time
	ends map[source.TopicPartition]source.Ends
}

// NewLive watches the lanes of a pipeline that read the partitions.
func NewLive(pipeline string, cluster Cluster, state LiveState, tps []source.TopicPartition, now func() time.Time) *Live {
	return &Live{pipeline: pipeline, cluster: cluster, state: state, tps: tps, now: now, moved: make(map[source.TopicPartition]move)}
}

// Lagging says which lane has not reached the end that its log had at least five seconds ago; "" when every lane has.
// Call it about once a second. Lanes that nobody runs lag behind nothing, nor do those of a pipeline that is paused.
func (l *Live) Lagging(ctx context.Context) (string, error) {
	now := l.now()
	if n := len(l.asked); n == 0 || now.Sub(l.asked[n-1].at) >= time.Second {
		ends, err := l.cluster.Ends(ctx, l.tps...)
		if err != nil {
			return "", fmt.Errorf("ends of the source topics: %w", err)
		}
		l.asked = append(l.asked, askedEnds{now, ends})
	}
	due := -1
	for i := range l.asked {
		if now.Sub(l.asked[i].at) >= lagAfter {
			due = i
		}
	}
	if due < 0 {
		return "", nil
	}
	l.asked = slices.Delete(l.asked, 0, due)
	ctl, err := l.state.PipelineCtl(ctx, l.pipeline)
	if err != nil || ctl.Paused || ctl.Stopping {
		return "", err
	}
	for _, tp := range l.tps {
		end, ok := l.asked[0].ends[tp]
		if !ok {
			continue
		}
		meta, found, err := l.state.ReadMeta(ctx, store.LaneID{Pipeline: l.pipeline, Topic: tp.Topic, Partition: tp.Partition})
		if err != nil {
			return "", err
		}
		if m := l.moved[tp]; m.owner != meta.Owner || m.cursor != meta.Cursor {
			l.moved[tp] = move{meta.Owner, meta.Cursor, now}
		}
		if found && meta.Offset >= 0 && meta.Offset < end.End && now.Sub(l.moved[tp].at) < goneAfter {
			return fmt.Sprintf("lane %s of the pipeline is %d offsets behind what its log had %s ago", tp, end.End-meta.Offset,
				now.Sub(l.asked[0].at).Round(time.Second)), nil
		}
	}
	return "", nil
}
