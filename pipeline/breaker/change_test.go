package breaker

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func TestChangesAreKept(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		require.Empty(t, r.Changes(0))
		orders := []report.Override{report.OverrideOpen, report.OverrideClose}
		for i := range kept + 5 {
			r.Override(orders[i%2], "ann", "")
		}
		all := r.Changes(0)
		require.Len(t, all, kept)
		require.Equal(t, int64(6), all[0].Seq)
		require.Len(t, r.Changes(kept), 5)
		require.Empty(t, r.Changes(kept+5))
		require.Len(t, r.Changes(kept+6), kept, "a seq from before a restart asks for all")
		require.Equal(t, int64(kept+5), r.Status().Seq)
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
			r.Override(report.OverrideOpen, "ann", "")
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
			r.Override([]report.Override{report.OverrideOpen, report.OverrideClose}[i%2], "ann", "")
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

func TestStatusAsJSON(t *testing.T) {
	inBubble(t, Thresholds{}, func(t *testing.T, r *rig) {
		r.journal(stored(700, 1))
		r.Report(errRefused)
		r.Override(report.OverrideClose, "ann", "INC-7")
		text, err := json.Marshal(r.Status())
		require.NoError(t, err)
		var back Status
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, map[report.Level]int64{report.LevelThrottled: 1}, back.Entered)
		require.Equal(t, "ann", back.Order.By)
		require.Equal(t, "orders", back.Pipeline)
	})
}
