package app

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/activities"
	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

func nothingWanted(context.Context, string) (store.PipelineCtl, error) {
	return store.PipelineCtl{}, nil
}

func openRedis(by string) report.LevelOrder {
	return report.LevelOrder{Dependency: report.DependencyRedis, Override: report.OverrideOpen, By: by, Reason: "maintenance",
		At: time.Unix(7, 0)}
}

func ctlOf(t *testing.T, generation int64, orders ...report.LevelOrder) store.PipelineCtl {
	raw, err := json.Marshal(orders)
	require.NoError(t, err)
	return store.PipelineCtl{Gen: generation, Orders: raw}
}

// An order acts when it is new, and its end when it ends; in between a single worker's override stands.
func TestOrdersAreFollowedOnce(t *testing.T) {
	guarded(t, withJournal, func(t *testing.T, g guard) {
		o := &obedience{m: g.Machine, dependency: report.DependencyRedis}
		override := func() string {
			if s := g.Status().Order; s != nil {
				return string(s.Override) + " by " + s.By
			}
			return ""
		}
		o.follow(store.PipelineCtl{Gen: 1})
		require.Empty(t, override())
		o.follow(ctlOf(t, 2, openRedis("update a")))
		require.Equal(t, "open by update a", override())
		require.Equal(t, report.LevelJournal, g.Level())

		g.Override(report.OverrideClose, "the operator of this worker", "")
		o.follow(ctlOf(t, 2, openRedis("update a")))
		o.follow(ctlOf(t, 3, openRedis("update a")))
		require.Equal(t, "close by the operator of this worker", override(), "the same order does not act again")

		o.follow(store.PipelineCtl{})
		o.follow(ctlOf(t, 1))
		o.follow(store.PipelineCtl{Gen: 9, Orders: []byte("garbage")})
		require.Equal(t, "close by the operator of this worker", override(), "a Redis that forgot, or stands behind, orders nothing")
		o.follow(ctlOf(t, 4))
		require.Empty(t, override(), "the end of the order lifts what there is")
		require.Equal(t, report.LevelNormal, g.Level())

		g.Override(report.OverrideHold, "the operator of this worker", "")
		o.follow(ctlOf(t, 5))
		require.NotEmpty(t, override(), "no order has ended")
		o.take("w", contract.OrderLevelsInput{Generation: 6, Lift: []string{report.DependencyResults}})
		require.NotEmpty(t, override())
		taken := o.take("w", contract.OrderLevelsInput{Generation: 6, Lift: []string{report.DependencyRedis}})
		require.Empty(t, override())
		require.Equal(t, contract.OrderedLevel{Worker: "w", Replica: 2, Dependency: report.DependencyRedis, Level: report.LevelNormal},
			taken)
	})
}

// What came through Temporal while Redis was away stands until Redis has it, or something newer.
func TestOrdersOfAnEarlierGenerationArePassedOver(t *testing.T) {
	guarded(t, withJournal, func(t *testing.T, g guard) {
		o := &obedience{m: g.Machine, dependency: report.DependencyRedis}
		o.follow(ctlOf(t, 3))
		o.take("w", contract.OrderLevelsInput{Generation: 4, Orders: []report.LevelOrder{openRedis("update a")}})
		o.follow(ctlOf(t, 3))
		require.Equal(t, report.LevelJournal, g.Level())
		o.follow(ctlOf(t, 5, openRedis("update a")))
		require.Equal(t, report.LevelJournal, g.Level())
		o.follow(ctlOf(t, 6))
		require.Equal(t, report.LevelNormal, g.Level())
	})
}

// A closer's state machine follows what Redis holds as long as it is used, and until the order ends.
func TestClosersFollowOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ctl := store.PipelineCtl{Gen: 1}
		set := func(next store.PipelineCtl) {
			mu.Lock()
			defer mu.Unlock()
			ctl = next
		}
		p := &press{temporal: &fakeStarts{}}
		p.outlets = &outlets{
			log: quiet, made: make(map[string]*outlet),
			wanted: func(context.Context, string) (store.PipelineCtl, error) {
				mu.Lock()
				defer mu.Unlock()
				return ctl, nil
			},
			ping:   func(context.Context, string) error { return nil },
			follow: func(ctx context.Context, _ string, _ activities.Level) { <-ctx.Done() },
		}
		defer p.outlets.close()
		out, err := p.outlets.of("orders")
		require.NoError(t, err)
		pass(2 * time.Second)
		require.Equal(t, report.LevelNormal, out.Level())
		hold := report.LevelOrder{Dependency: report.DependencyResults, Override: report.OverrideOpen, By: "update b"}
		set(ctlOf(t, 2, openRedis("update a"), hold))
		pass(2 * time.Second)
		require.Equal(t, report.LevelPaused, out.Level())
		pass(time.Hour) // nobody closes windows here any more
		set(ctlOf(t, 3))
		pass(2 * time.Second)
		require.Equal(t, report.LevelNormal, out.Level())
	})
}
