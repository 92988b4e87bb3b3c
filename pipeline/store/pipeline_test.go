package store_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

func TestPipelineCtl(t *testing.T) {
	yes, no, hold, flush := true, false, int64(978307200000), "flush-1"
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		ctl, err := s.PipelineCtl(ctx, "flights")
		require.NoError(t, err)
		require.Equal(t, store.PipelineCtl{WatermarkHold: store.NoTime}, ctl)

		spec := []byte(`{"name":"flights"}`)
		steps := []struct {
			change store.CtlChange
			gen    int64
			want   store.PipelineCtl
		}{
			{store.CtlChange{RequestID: "start", Spec: spec}, 1,
				store.PipelineCtl{Gen: 1, Spec: spec, SpecGen: 1, WatermarkHold: store.NoTime}},
			{store.CtlChange{RequestID: "pause", Paused: &yes}, 2,
				store.PipelineCtl{Gen: 2, Paused: true, Spec: spec, SpecGen: 1, WatermarkHold: store.NoTime}},
			{store.CtlChange{RequestID: "start", Spec: []byte("ignored")}, 1,
				store.PipelineCtl{Gen: 2, Paused: true, Spec: spec, SpecGen: 1, WatermarkHold: store.NoTime}},
			{store.CtlChange{RequestID: "resume", Paused: &no, CommitNow: &flush, WatermarkHold: &hold}, 3,
				store.PipelineCtl{Gen: 3, CommitNow: "flush-1", Spec: spec, SpecGen: 1, WatermarkHold: hold}},
			{store.CtlChange{RequestID: "stop", Stopping: &yes, Above: 40}, 41,
				store.PipelineCtl{Gen: 41, Stopping: true, CommitNow: "flush-1", Spec: spec, SpecGen: 1, WatermarkHold: hold}},
			{store.CtlChange{RequestID: "stop", Stopping: &yes, Above: 40}, 41,
				store.PipelineCtl{Gen: 41, Stopping: true, CommitNow: "flush-1", Spec: spec, SpecGen: 1, WatermarkHold: hold}},
		}
		for _, step := range steps {
			gen, now, err := s.SetPipelineCtl(ctx, "flights", step.change)
			require.NoError(t, err)
			require.Equal(t, step.gen, gen, step.change.RequestID)
			require.Equal(t, step.want, now, step.change.RequestID)
			read, err := s.PipelineCtl(ctx, "flights")
			require.NoError(t, err)
			require.Equal(t, now, read)
		}
		_, _, err = s.SetPipelineCtl(ctx, "flights", store.CtlChange{Paused: &yes})
		require.ErrorContains(t, err, "request id is empty")

		require.NoError(t, client.HSet(ctx, "mr:{flights}:ctl", "format", 9).Err())
		var format *store.FormatError
		_, err = s.PipelineCtl(ctx, "flights")
		require.ErrorAs(t, err, &format)
	})
}

func TestPipelineCtlForgetsOldRequests(t *testing.T) {
	client := storetest.Client(t, miniredis.RunT(t).Addr(), false)
	s := store.New(client)
	for i := range 1100 {
		_, _, err := s.SetPipelineCtl(ctx, "flights", store.CtlChange{RequestID: strconv.Itoa(i)})
		require.NoError(t, err)
	}
	require.EqualValues(t, 1000, client.ZCard(ctx, "mr:{flights}:requests").Val())
	gen, now, err := s.SetPipelineCtl(ctx, "flights", store.CtlChange{RequestID: "1099"})
	require.NoError(t, err)
	require.EqualValues(t, 1100, gen)
	require.EqualValues(t, 1100, now.Gen)
}

func TestLease(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		a := store.Lease{Worker: "a", Queue: "millrace:p:a", Token: "ta"}
		b := store.Lease{Worker: "b", Queue: "millrace:p:b", Token: "tb"}
		take := func(l store.Lease, ttl time.Duration) (store.Lease, bool) {
			holder, held, err := s.AcquireLease(ctx, "flights", 2, l, ttl)
			require.NoError(t, err)
			return holder, held
		}
		_, found, err := s.ReadLease(ctx, "flights", 2)
		require.NoError(t, err)
		require.False(t, found)

		_, held := take(a, time.Hour)
		require.True(t, held)
		_, held = take(a, time.Hour)
		require.True(t, held, "renewed")
		holder, held := take(b, time.Hour)
		require.False(t, held)
		require.Equal(t, "ta", holder.Token)
		require.Equal(t, "millrace:p:a", holder.Queue)
		require.InDelta(t, time.Hour, holder.TTL, float64(time.Minute))

		require.NoError(t, s.ReleaseLease(ctx, "flights", 2, "tb"))
		holder, found, err = s.ReadLease(ctx, "flights", 2)
		require.NoError(t, err)
		require.True(t, found)
		require.Equal(t, "a", holder.Worker)

		_, held = take(a, time.Millisecond) // expires
		require.True(t, held)
		require.Eventually(t, func() bool {
			_, found, err := s.ReadLease(ctx, "flights", 2)
			return err == nil && !found
		}, 5*time.Second, time.Millisecond)
		_, held = take(b, time.Hour)
		require.True(t, held, "stolen after it expired")
		_, held = take(a, time.Hour)
		require.False(t, held)
		require.NoError(t, s.ReleaseLease(ctx, "flights", 2, "tb"))
		_, held = take(a, time.Hour)
		require.True(t, held)
		require.NoError(t, client.FlushAll(ctx).Err())
		_, held = take(a, time.Hour)
		require.True(t, held, "a lease that redis forgot goes back to its holder")

		_, _, err = s.AcquireLease(ctx, "flights", 2, a, 0)
		require.ErrorContains(t, err, "lease of replica 2 of flights: ttl is 0s")
		_, _, err = s.AcquireLease(ctx, "flights", -1, a, 0)
		require.ErrorContains(t, err, "lease of the closers of flights: ttl is 0s")
	})
}
