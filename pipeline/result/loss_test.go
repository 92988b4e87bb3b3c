package result_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/result"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
)

// lossy is a world with an hour that is over, of which Redis holds two events.
func lossy(t *testing.T) (*world, *result.Closer) {
	w := newWorld(t, hourly, 2)
	w.lanes[0].event("x", 10, 1)
	w.lanes[0].event("y", 11, 1)
	w.lanes[1].event("x", 12, 1)
	for _, l := range w.lanes {
		l.event("x", 61, 1)
		l.commit()
	}
	return w, w.closer()
}

func (w *world) unlink(pattern string) {
	w.t.Helper()
	keys, err := w.redis.Keys(w.ctx, pattern).Result()
	require.NoError(w.t, err)
	require.NotEmpty(w.t, keys)
	require.NoError(w.t, w.redis.Unlink(w.ctx, keys[0]).Err())
}

// Without a lane's slices nobody knows which windows it has events of: nothing is published, sealed or dropped until the
// lane has written them again, and when it does not it is an incident.
func TestNothingIsPublishedWhileSlicesAreMissing(t *testing.T) {
	for _, key := range []string{"slices", "folds"} {
		t.Run(key, func(t *testing.T) {
			w, c := lossy(t)
			w.unlink("*orders/orders/0}:" + key)
			for range 3 {
				r := w.round(c)
				require.Empty(t, r.Closed)
				require.Empty(t, r.Incidents)
				require.Equal(t, "orders/0", r.Waiting.Lane)
				require.Contains(t, r.Waiting.For, "it folded 3 events")
			}
			for name, publish := range map[string]func() (result.Receipt, error){
				"flush": func() (result.Receipt, error) { return c.Flush(w.ctx) },
				"drain": func() (result.Receipt, error) { return c.Drain(w.ctx, nil) },
			} {
				receipt, err := publish()
				require.NoError(t, err, name)
				require.False(t, receipt.Done, name)
				require.Contains(t, receipt.Missing[0].Reason, "gone from redis", name)
			}
			_, _, err := c.CloseWindow(w.ctx, ref(0, 0), "")
			require.ErrorIs(t, err, store.ErrPartialLoss)
			require.True(t, result.Waits(err))
			require.Empty(t, w.ledger())
			require.Equal(t, int64(store.NoTime), w.lanes[1].ctl().SealBefore)

			v, err := verify.Run(w.ctx, verify.Config{Spec: w.spec, State: w.store, Kafka: w.kafka})
			require.NoError(t, err)
			require.Equal(t, verify.ProblemLoss, v.Problems[len(v.Problems)-1].Kind)

			for range 10 {
				w.round(c)
			}
			r := w.round(c)
			require.NotEmpty(t, r.Incidents)
			require.Contains(t, r.Incidents[0].Problem, "incident state-lost")

			w.lanes[0].reseed()
			for range 12 { // what has failed waits for some rounds
				w.round(c)
				w.lanes[0].idle()
				w.lanes[1].idle()
			}
			require.Equal(t, []string{"r1 watermark"}, w.history("hourly", base))
			require.Equal(t, `{"n":2,"sum":2,"avg":1,"last":1}`, w.values()[`hourly+0m {"k":"x"}`])
			w.sound()
		})
	}
}

// spoil cuts the pages of a slice off.
func (w *world) spoil(pattern string) {
	w.t.Helper()
	keys, err := w.redis.Keys(w.ctx, pattern).Result()
	require.NoError(w.t, err)
	require.NotEmpty(w.t, keys)
	pages, err := w.redis.HGetAll(w.ctx, keys[0]).Result()
	require.NoError(w.t, err)
	for name, page := range pages {
		require.NoError(w.t, w.redis.HSet(w.ctx, keys[0], name, page[:len(page)-1]).Err())
	}
}

// damages are what may happen to entries in Redis, what is said of it, and the incident it becomes.
var damages = map[string]struct {
	damage   func(w *world, pattern string)
	says     string
	incident string
}{
	"missing": {(*world).unlink, `the entries of slice 3600000:\d+:0 hold 0 events, the lane folded 2`, "incident state-lost"},
	"spoilt":  {(*world).spoil, `slice 3600000:\d+:0: .*corrupt state page`, "incident corrupt-state"},
}

// A lane is asked to write entries again that do not add up or cannot be read. It does so once, whoever asks how often.
func TestDamagedEntriesAreAskedFor(t *testing.T) {
	for name, d := range damages {
		t.Run(name, func(t *testing.T) {
			w, c := lossy(t)
			l := w.lanes[0]
			d.damage(w, "*orders/orders/0}:p:*:3600000:"+itoa(base)+":0*")
			r := w.round(c)
			require.Len(t, r.Pending, 1)
			require.Regexp(t, d.says, r.Pending[0].Problem)
			require.Empty(t, r.Incidents)
			require.Empty(t, w.ledger())
			require.Equal(t, l.token, l.ctl().Rewrite.Owner)

			control := l.control()
			control.Rewrite = l.ctl().Rewrite.Seq
			commit := newCommit()
			l.state.Snapshot(commit, control)
			require.Equal(t, 3, commit.Entries)
			l.deliver(commit)
			control.DeleteUpTo = commit.Seq()
			l.state.Snapshot(commit, control)
			require.Zero(t, commit.Entries)
			l.deliver(commit)
			w.settle(c)
			require.Equal(t, `{"n":2,"sum":2,"avg":1,"last":1}`, w.values()[`hourly+0m {"k":"x"}`])
			w.sound()
		})
	}
}

// Entries that nobody writes again are an incident.
func TestDamagedEntriesBecomeAnIncident(t *testing.T) {
	for name, d := range damages {
		t.Run(name, func(t *testing.T) {
			w, c := lossy(t)
			d.damage(w, "*orders/orders/0}:p:*:3600000:"+itoa(base)+":0*")
			for range 10 {
				require.Empty(t, w.round(c).Incidents)
			}
			r := w.round(c)
			require.Len(t, r.Failed, 1)
			require.Len(t, r.Incidents, 1)
			require.Contains(t, r.Incidents[0].Problem, d.incident)
			require.Empty(t, w.ledger())
			_, _, err := c.CloseWindow(w.ctx, ref(0, 0), "")
			var loss *result.LossError
			require.ErrorAs(t, err, &loss)
			require.True(t, result.Incident(err))
		})
	}
}
