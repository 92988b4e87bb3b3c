package store_test

import (
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

var shadow = store.ShadowID{Pipeline: "flights", ID: "nightly-2026-11-30T03:00:00Z"}

func TestShadowIsWrittenByItsOwnerOnly(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		_, err := s.ReadShadow(ctx, shadow)
		require.ErrorIs(t, err, store.ErrNoShadow)
		_, err = s.ReadShadowPlan(ctx, shadow)
		require.ErrorIs(t, err, store.ErrNoShadow)
		_, err = s.TakeShadow(ctx, shadow, "", store.NextToken(""))
		require.ErrorIs(t, err, store.ErrNoShadow)
		require.ErrorIs(t, s.SetShadowRate(ctx, shadow, 5), store.ErrNoShadow)
		require.ErrorIs(t, s.WriteShadowHeader(ctx, shadow, "", "w/0", []byte("h")), store.ErrNoShadow)

		g, err := s.BeginShadow(ctx, shadow, 100, 7, []byte("plan"), "sum")
		require.NoError(t, err)
		require.Equal(t, store.ShadowGuard{Begun: 100, Rate: 7, Plan: "sum"}, g)
		g, err = s.BeginShadow(ctx, shadow, 200, 8, []byte("another"), "other")
		require.NoError(t, err)
		require.Equal(t, "sum", g.Plan, "it keeps the plan it was begun with")
		plan, err := s.ReadShadowPlan(ctx, shadow)
		require.NoError(t, err)
		require.Equal(t, "plan", string(plan))

		first := store.NextToken("")
		_, err = s.TakeShadow(ctx, shadow, "", first)
		require.NoError(t, err)
		_, err = s.TakeShadow(ctx, shadow, "", first)
		require.NoError(t, err, "a repeated call")
		second := store.NextToken(first)
		_, err = s.TakeShadow(ctx, shadow, "", second)
		require.ErrorIs(t, err, store.ErrFenced)
		g, err = s.TakeShadow(ctx, shadow, first, second)
		require.NoError(t, err)
		require.Equal(t, second, g.Owner)

		pages := []store.ShadowPage{{Number: 0, Bytes: []byte("a")}, {Number: 1, Bytes: []byte("b")}}
		require.ErrorIs(t, s.WriteShadowPages(ctx, shadow, first, "w/0", true, pages), store.ErrFenced)
		require.ErrorIs(t, s.WriteShadowHeader(ctx, shadow, first, "w/0", []byte("h")), store.ErrFenced)
		require.ErrorIs(t, s.FinishShadow(ctx, shadow, first, "x"), store.ErrFenced)
		require.NoError(t, s.WriteShadowPages(ctx, shadow, second, "w/0", true, pages))
		require.NoError(t, s.WriteShadowPages(ctx, shadow, second, "w/0", true, pages[:1]))
		page, err := s.ShadowPage(ctx, shadow, "w/0", 0)
		require.NoError(t, err)
		require.Equal(t, "a", string(page))
		page, err = s.ShadowPage(ctx, shadow, "w/0", 1)
		require.NoError(t, err)
		require.Nil(t, page, "those of an attempt before are gone")
		require.NoError(t, s.WriteShadowHeader(ctx, shadow, second, "w/0", []byte("h")))
		headers, err := s.ShadowHeaders(ctx, shadow)
		require.NoError(t, err)
		require.Equal(t, map[string][]byte{"w/0": []byte("h")}, headers)
		header, err := s.ShadowHeader(ctx, shadow, "w/1")
		require.NoError(t, err)
		require.Nil(t, header)
		require.NoError(t, s.SetShadowRate(ctx, shadow, 9))
		require.NoError(t, s.FinishShadow(ctx, shadow, second, "all"))
		g, err = s.ReadShadow(ctx, shadow)
		require.NoError(t, err)
		require.Equal(t, store.ShadowGuard{Owner: second, Begun: 100, Rate: 9, Plan: "sum", Checksum: "all"}, g)

		require.Error(t, s.FenceShadow(ctx, shadow, "7:abc"))
		require.NoError(t, s.FenceShadow(ctx, shadow, store.RemovedToken("r")))
		require.ErrorIs(t, s.WriteShadowHeader(ctx, shadow, second, "w/0", []byte("h")), store.ErrShadowEnds)
		require.ErrorIs(t, s.SetShadowRate(ctx, shadow, 9), store.ErrShadowEnds)
		_, err = s.TakeShadow(ctx, shadow, second, store.NextToken(second))
		require.ErrorIs(t, err, store.ErrShadowEnds)
		_, err = s.BeginShadow(ctx, shadow, 300, 0, []byte("plan"), "sum")
		require.ErrorIs(t, err, store.ErrShadowEnds)
	})
}

func TestRemovalFindsWhatShadowsKeep(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		require.NoError(t, s.RegisterShadow(ctx, shadow, 100))
		_, err := s.BeginShadow(ctx, shadow, 100, 0, []byte("plan"), "sum")
		require.NoError(t, err)
		owner := store.NextToken("")
		_, err = s.TakeShadow(ctx, shadow, "", owner)
		require.NoError(t, err)
		require.NoError(t, s.WriteShadowPages(ctx, shadow, owner, "w/0", true, []store.ShadowPage{{Bytes: []byte("a")}}))
		require.NoError(t, s.WriteShadowHeader(ctx, shadow, owner, "w/0", []byte("h")))
		id := store.LaneID{Pipeline: shadow.Namespace(), Topic: "flights"}
		_, _, err = s.Acquire(ctx, id, "state", "", owner)
		require.NoError(t, err)

		kinds, guards := map[string]int{}, 0
		require.NoError(t, s.ScanPipeline(ctx, "flights", func(keys []store.PipelineKey) error {
			for _, k := range keys {
				kinds[k.Kind]++
				if k.IsGuard() {
					guards++
				}
			}
			return nil
		}))
		require.Equal(t, map[string]int{store.KeyShadow: 5, store.KeyMeta: 1}, kinds)
		require.Equal(t, 1, guards)
		_, err = s.Fence(ctx, id, removal)
		require.NoError(t, err)
		require.NoError(t, s.ScanPipeline(ctx, "flights", func(keys []store.PipelineKey) error {
			_, err := s.DeleteKeys(ctx, keys, true)
			return err
		}))
		require.Empty(t, left(t, s))
	})
}

func TestRegistryRemembersWhatWasEnded(t *testing.T) {
	storetest.Each(t, func(t *testing.T, client redis.UniversalClient) {
		s := store.New(client)
		const day = 24 * 3600 * 1000
		other := store.ShadowID{Pipeline: "flights", ID: "b"}
		require.NoError(t, s.RegisterShadow(ctx, shadow, 100))
		require.NoError(t, s.RegisterShadow(ctx, other, 200))
		require.NoError(t, s.UnregisterShadow(ctx, other, 1000))
		entries, err := s.Shadows(ctx, "flights")
		require.NoError(t, err)
		require.Equal(t, []store.ShadowEntry{{ID: "b", Ended: 1000}, {ID: shadow.ID, Begun: 100}}, entries)
		require.NoError(t, s.UnregisterShadow(ctx, other, 2000), "again")
		require.NoError(t, s.UnregisterShadow(ctx, shadow, 1001+day))
		entries, err = s.Shadows(ctx, "flights")
		require.NoError(t, err)
		require.Equal(t, []store.ShadowEntry{{ID: shadow.ID, Ended: 1001 + day}}, entries, "what was ended long ago is forgotten")
	})
}
