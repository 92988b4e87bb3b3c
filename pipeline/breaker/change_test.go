package breaker

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestChangesAreKept(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		require.Empty(t, r.Changes(0))
		orders := []Override{ForceOpen, ForceClose}
		for i := range kept + 5 {
			r.Override(orders[i%2], "ann", "")
		}
		all := r.Changes(0)
		require.Len(t, all, kept)
		require.Equal(t, int64(6), all[0].Seq)
		require.Len(t, r.Changes(kept), 5)
		require.Empty(t, r.Changes(kept+5))
		require.Len(t, r.Changes(kept+6), kept, "a seq from before a restart asks for all")
		require.Equal(t, int64(kept+5), r.Status().Changes)
	})
}

func TestAwait(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := r.Await(ctx, 0)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		go func() {
			<-time.After(time.Hour)
			r.Override(ForceOpen, "ann", "")
		}()
		began := time.Now()
		changes, err := r.Await(t.Context(), 99)
		require.NoError(t, err)
		require.Len(t, changes, 1)
		require.Equal(t, time.Hour, time.Since(began))
		changes, err = r.Await(t.Context(), 0)
		require.NoError(t, err)
		require.Len(t, changes, 1)
	})
}

// Whoever follows with Await sees every change once and in order, whatever else goes on.
func TestFollowers(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		const orders = 400
		seen := make(chan []int64, 8)
		for range cap(seen) {
			go func() {
				var seqs []int64
				for after := int64(0); after < orders; {
					changes, err := r.Await(t.Context(), after)
					if err != nil {
						break
					}
					for _, c := range changes {
						seqs = append(seqs, c.Seq)
						after = c.Seq
					}
				}
				seen <- seqs
			}()
		}
		for i := range orders {
			r.Override([]Override{ForceOpen, ForceClose}[i%2], "ann", "")
			r.Status()
			if i%10 == 0 {
				synctest.Wait()
			}
		}
		for range cap(seen) {
			seqs := <-seen
			require.Len(t, seqs, orders)
			for i, seq := range seqs {
				require.Equal(t, int64(i+1), seq)
			}
		}
	})
}

func TestJSON(t *testing.T) {
	c := Change{
		Seq: 3, At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Dependency: "redis", From: Normal, To: Journal,
		Reason: "why", Numbers: map[string]float64{"n": 1}, Override: Hold,
	}
	text, err := json.Marshal(c)
	require.NoError(t, err)
	require.JSONEq(t, `{"seq":3,"at":"2026-01-02T03:04:05Z","dependency":"redis","from":"normal","to":"journal","reason":"why",
		"numbers":{"n":1},"override":"hold"}`, string(text))
	var back Change
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, c, back)
	require.ErrorContains(t, json.Unmarshal([]byte(`{"to":"halted"}`), &back), `level is "halted"; want one of ["normal"`)
	_, err = json.Marshal(Level(7))
	require.ErrorContains(t, err, "there is no level 7")

	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(700, 1))
		r.Report(errRefused)
		r.Override(ForceClose, "ann", "INC-7")
		text, err := json.Marshal(r.Status())
		require.NoError(t, err)
		var back Status
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, map[Level]int64{Throttled: 1}, back.Entered)
		require.Equal(t, "ann", back.Override.By)
		require.Equal(t, "orders", back.Pipeline)
	})
}
