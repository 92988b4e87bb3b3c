package engine

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
)

// pass lets time go by in a synctest bubble.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// hooks notes what an engine announces and reports.
type hooks struct {
	mu        sync.Mutex
	announced []report.RecoveryBatch
	reported  []report.RecoveryReport
}

func (h *hooks) into(cfg *Config) {
	cfg.Announce = func(b report.RecoveryBatch) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.announced = append(h.announced, b)
	}
	h.reports(cfg)
}

func (h *hooks) reports(cfg *Config) {
	cfg.Report = func(r report.RecoveryReport) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.reported = append(h.reported, r)
	}
}

func (h *hooks) seen(t *testing.T, announced, reported int) ([]report.RecoveryBatch, []report.RecoveryReport) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	require.Len(t, h.announced, announced)
	require.Len(t, h.reported, reported)
	return h.announced, h.reported
}

// came counts the lanes of a report: all, and those that run, are parked and are gone.
func came(r *report.RecoveryReport) []int {
	n := []int{len(r.Lanes), 0, 0, 0}
	for i := range r.Lanes {
		n[slices.Index([]string{"", report.LaneRunning, report.LaneParked, report.LaneSuperseded}, r.Lanes[i].State)]++
	}
	return n
}

// ranBy says who ran the steps of a report.
func ranBy(r *report.RecoveryReport) (all []string) {
	for _, s := range r.Steps {
		all = append(all, s.By)
	}
	return slices.Compact(all)
}

func partitions(from, n int32) []int32 {
	out := make([]int32, n)
	for i := range out {
		out[i] = from + int32(i)
	}
	return out
}

func TestWithoutAControlPlaneLanesResumeAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen hooks
		h := newHall(t, seen.reports)
		defer h.close()
		h.claim(partitions(0, 3)...)
		synctest.Wait()
		require.Equal(t, map[string]int{lane.StateRunning: 3}, h.states(), "no time has passed")
		pass(Collect)
		_, reports := seen.seen(t, 0, 1)
		r := reports[0]
		require.Equal(t, []int{3, 3, 0, 0}, came(&r))
		require.Equal(t, []string{report.ByInline}, ranBy(&r))
		require.Len(t, r.Lanes, 3)
		require.Equal(t, report.LaneRef{Topic: "orders", Partition: 1}, r.Lanes[1].Lane())
		require.Equal(t, []int64{0, 1, 0, 100}, []int64{r.Lanes[1].FromEpoch, r.Lanes[1].ToEpoch, r.Lanes[1].LogStart, r.Lanes[1].LogEnd})
		require.Len(t, r.Lanes[1].Steps, len(report.Steps()))
		kept, ok := h.Batch(r.Batch.Batch)
		require.True(t, ok)
		require.Equal(t, r, kept)
	})
}

func TestStepsRunFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen hooks
		h := newHall(t, seen.into)
		defer h.close()
		h.claim(partitions(0, 40)...)
		pass(Collect / 2)
		h.claim(partitions(40, 2)...)
		pass(Collect / 2)
		batches, _ := seen.seen(t, 1, 0)
		require.Len(t, batches[0].Lanes, 42, "claims are collected")
		for _, step := range report.Steps() {
			pass(TemporalWait / 2)
			r, err := h.RecoverStep(t.Context(), batches[0].Batch, step)
			require.NoError(t, err)
			require.Equal(t, []int{42, 42}, []int{r.Sums.Lanes, r.Sums.Done}, step)
			require.Equal(t, report.ByTemporal, r.By)
			again, err := h.RecoverStep(t.Context(), batches[0].Batch, step)
			require.NoError(t, err)
			again.Lanes = r.Lanes // where the lanes stand now
			require.Equal(t, r, again)
		}
		synctest.Wait()
		require.Equal(t, map[string]int{lane.StateRunning: 42}, h.states())
		_, reports := seen.seen(t, 1, 1)
		require.Equal(t, []string{report.ByTemporal}, ranBy(&reports[0]))
		for p := range int32(42) {
			require.Equal(t, 1, h.restores(p))
		}
		_, err := h.RecoverStep(t.Context(), batches[0].Batch, "dance")
		require.ErrorContains(t, err, "want one of")
		_, err = h.RecoverStep(t.Context(), batches[0].Batch+1, report.StepVerify)
		require.ErrorIs(t, err, ErrNoBatch)
	})
}

func TestStepsRunInlineWhenNobodyComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen hooks
		h := newHall(t, func(cfg *Config) {
			seen.into(cfg)
			note := cfg.Announce
			cfg.Announce = func(b report.RecoveryBatch) { note(b); <-t.Context().Done() } // it may block for ever
		})
		defer h.close()
		h.claim(partitions(0, 5)...)
		pass(Collect)
		require.Equal(t, map[string]int{lane.StateAcquiring: 5}, h.states())
		pass(TemporalWait - 1)
		require.Equal(t, map[string]int{lane.StateAcquiring: 5}, h.states())
		pass(1)
		require.Equal(t, map[string]int{lane.StateRunning: 5}, h.states(), "the other steps follow at once")
		batches, reports := seen.seen(t, 1, 1)
		require.Equal(t, []string{report.ByInline}, ranBy(&reports[0]))
		late, err := h.RecoverStep(t.Context(), batches[0].Batch, report.StepRestore)
		require.NoError(t, err)
		require.Equal(t, report.ByInline, late.By, "the recorded result")
		require.Equal(t, 5, late.Sums.Done)
	})
}

func TestTheTimerTakesOverAfterAStepFromOutside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen hooks
		h := newHall(t, seen.into)
		defer h.close()
		h.claim(partitions(0, 2)...)
		pass(Collect)
		batches, _ := seen.seen(t, 1, 0)
		_, err := h.RecoverStep(t.Context(), batches[0].Batch, report.StepAcquire)
		require.NoError(t, err)
		pass(TemporalWait)
		_, reports := seen.seen(t, 1, 1)
		require.Equal(t, report.ByTemporal, reports[0].Steps[0].By)
		require.Equal(t, report.ByInline, reports[0].Steps[1].By)
	})
}

func TestOneLaneHoldsNoOtherBack(t *testing.T) {
	for _, outside := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var seen hooks
			h := newHall(t, seen.into)
			defer h.close()
			h.hint[1] = 50 // parks
			h.block[2] = make(chan struct{})
			h.claim(partitions(0, 4)...)
			pass(Collect)
			batches, _ := seen.seen(t, 1, 0)
			if outside {
				go func() {
					for _, step := range report.Steps() {
						_, _ = h.RecoverStep(h.ctx, batches[0].Batch, step)
					}
				}()
			}
			pass(2 * TemporalWait)
			require.Equal(t, map[string]int{lane.StateRunning: 2, lane.StateParked: 1, lane.StateRestoring: 1}, h.states())
			seen.seen(t, 1, 0)
			close(h.block[2])
			synctest.Wait()
			_, reports := seen.seen(t, 1, 1)
			r := reports[0]
			require.Equal(t, []int{4, 3, 1, 0}, came(&r))
			require.Equal(t, report.IncidentStateLost, r.Lanes[1].Incident.Kind)
			require.Equal(t, 1, r.Steps[3].Sums.Parked)
			text, err := json.Marshal(r)
			require.NoError(t, err)
			require.Contains(t, string(text), `"choices"`)
		})
	}
}

func TestLanesThatGoOrComeBackMakeBatchesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen hooks
		h := newHall(t, seen.into)
		defer h.close()
		h.away = 2 // the first tries fail
		h.block[1] = make(chan struct{})
		h.claim(0)
		revoke := h.claim(1)
		pass(Collect + TemporalWait + time.Second)
		require.Equal(t, map[string]int{lane.StateRunning: 1, lane.StateRestoring: 1}, h.states())
		revoke()
		synctest.Wait()
		_, reports := seen.seen(t, 1, 1)
		require.Equal(t, []int{2, 1, 0, 1}, came(&reports[0]))
		delete(h.block, 1)
		h.claim(1)
		pass(Collect + TemporalWait)
		_, reports = seen.seen(t, 2, 2)
		require.Less(t, reports[0].Batch.Batch, reports[1].Batch.Batch)
		require.Equal(t, 1, h.restores(0), "the other lane went on")
	})
}

// A caller that gives up leaves lanes that go on by themselves.
func TestACallerThatGivesUpHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen hooks
		h := newHall(t, seen.into)
		defer h.close()
		h.block[0] = make(chan struct{})
		h.claim(partitions(0, 2)...)
		pass(Collect)
		batches, _ := seen.seen(t, 1, 0)
		for _, step := range report.Steps()[:2] {
			_, err := h.RecoverStep(t.Context(), batches[0].Batch, step)
			require.NoError(t, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := h.RecoverStep(ctx, batches[0].Batch, report.StepRestore)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, map[string]int{lane.StateRunning: 1, lane.StateRestoring: 1}, h.states())
		close(h.block[0])
		pass(TemporalWait)
		require.Equal(t, map[string]int{lane.StateRunning: 2}, h.states())
	})
}

func TestReportsAreBoundedAndBatchesForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen hooks
		h := newHall(t, func(cfg *Config) { seen.reports(cfg); cfg.Storm.Changes = 1 << 20 })
		defer h.close()
		for p := range int32(150) {
			h.hint[p] = 1
		}
		h.claim(partitions(0, 500)...)
		pass(Collect)
		_, reports := seen.seen(t, 0, 1)
		r := reports[0]
		last := r.Steps[4].Sums
		require.Equal(t, []int{500, 350, 150}, []int{last.Lanes, last.Done, last.Parked}, "the sums are over all")
		require.LessOrEqual(t, len(r.Lanes), slowRows+maxTrouble)
		require.Equal(t, 500, len(r.Lanes)+r.More)
		for range keptBatches {
			revoke := h.claim(1000)
			pass(Collect)
			revoke()
		}
		_, ok := h.Batch(r.Batch.Batch)
		require.False(t, ok)
		_, ok = h.Batch(r.Batch.Batch + keptBatches)
		require.True(t, ok)
	})
}

func TestDecideReachesTheLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall(t, nil)
		defer h.close()
		h.hint[0] = 7
		h.claim(0)
		synctest.Wait()
		inc := h.Status().Lanes[0].Incident
		require.ErrorIs(t, h.Decide(t.Context(), "orders/1", inc.ID, report.ChoiceWait, "me"), ErrNoLane)
		require.ErrorIs(t, h.Decide(t.Context(), "orders/0", inc.ID, "hope", "me"), lane.ErrUnknownChoice)
		require.NoError(t, h.Decide(t.Context(), "orders/orders/0", inc.ID, report.ChoiceWait, "me"))
		require.Equal(t, "me", h.Status().Lanes[0].Decisions[0].By)
	})
}
