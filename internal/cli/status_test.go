package cli

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
)

// Lanes that could not be read have no lag of 0 and no open windows: nobody knows.
func TestStatusWithoutLanesClaimsNothing(t *testing.T) {
	var b bytes.Buffer
	drawHead(&b, statusView{Pipeline: "p"})
	require.Contains(t, b.String(), "\nthe lanes have not been read: watermark, open windows and lag are not known\n")
	require.NotContains(t, b.String(), "lag 0")
	b.Reset()
	drawHead(&b, statusView{Pipeline: "p", LanesAt: &noon})
	require.Contains(t, b.String(), "lag 0")
}

func TestStatusSaysWhatACommandWaitsFor(t *testing.T) {
	var b bytes.Buffer
	drawHead(&b, statusView{Pipeline: "p", Pending: []contract.Pending{
		{For: "Redis: write that it stops", Update: contract.UpdateStop, RequestID: "r", Since: noon, Why: "connection refused"},
		{For: "Kafka: find the topics", Since: noon},
	}})
	require.Contains(t, b.String(), "\nstop r waits for Redis: write that it stops since 2026-01-01T12:00:00Z: connection refused\n"+
		"it waits for Kafka: find the topics since 2026-01-01T12:00:00Z\n")
}

// manyLanes is a view of n lanes of which every 16th is parked, with far more to say than there is room for.
func manyLanes(n int, now time.Time) statusView {
	v := statusView{Pipeline: "orders", State: contract.StateRunning, LanesAt: &now, Lag: int64(n) * 1000}
	var conditions []contract.Condition
	for i := range n {
		mark := now.UnixMilli() - int64(i)*1000
		l := laneLine{
			Topic: "orders", Partition: int32(i), State: "running", Lag: int64(i), Rate: 1234.5, Watermark: &mark, UpdatedAt: now.UnixMilli(),
		}
		if i%16 == 15 {
			l.State, l.Choices = "parked", []string{"skip", "wait"}
			l.Reason = "incident gap, offsets [100, 200): the log of orders starts at 200, 100 offsets were deleted before they were read"
			conditions = append(conditions, contract.Condition{
				Kind: contract.ConditionLaneParked, Subject: l.name(), Reason: l.Reason, Command: "millrace recover ls orders",
			})
		}
		v.Lanes = append(v.Lanes, l)
	}
	for i := range 8 {
		v.Children = append(v.Children, contract.ChildState{
			ID: fmt.Sprintf("replica:orders:%d", i), State: contract.ChildPlaced, Worker: fmt.Sprintf("worker-%d", i%2),
		})
	}
	v.Children = append(v.Children, contract.ChildState{
		ID: "replica:orders:8", State: contract.ChildSeeking, Note: strings.Repeat("no worker can run it ", 20),
	})
	v.Standing = contract.NewStanding(v.Pipeline, v.State, n, conditions, now)
	return v
}

func TestScreenFits(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 4, 0, 0, time.UTC)
	for _, lanes := range []int{0, 1, 4, 64, 256} {
		for _, size := range [][2]int{{80, 24}, {200, 60}, {40, 12}, {80, 6}} {
			t.Run(fmt.Sprintf("%d lanes, %dx%d", lanes, size[0], size[1]), func(t *testing.T) {
				v := manyLanes(lanes, now)
				screen := drawScreen(v, now, size[0], size[1])
				lines := strings.Split(strings.TrimSuffix(screen, "\n"), "\n")
				require.Less(t, len(lines), size[1], "the last row stays free: a line feed there would scroll")
				for _, line := range lines {
					require.LessOrEqual(t, utf8.RuneCountInString(line), size[0], line)
				}
				require.Contains(t, lines[0], "pipeline orders: "+v.Standing.Line[:min(len(v.Standing.Line), size[0]-26)])
				if size[1] < 24 || lanes < 64 {
					return
				}
				require.Contains(t, screen, "  ! lane-parked orders/111"[:20], "what keeps it from its work")
				require.Contains(t, screen, "replica:orders:8: seeking")
				require.Contains(t, screen, "8 of 9 children are well, hot paths: 4 on worker-0, 4 on worker-1"[:min(size[0]-1, 60)])
				rows := screen[strings.Index(screen, "LANE"):]
				require.Contains(t, strings.Split(rows, "\n")[1], "parked", "the worst first")
				require.Contains(t, rows, "orders/", rows)
				require.Regexp(t, `and \d+ lanes more: .*running.*; lag`, rows)
			})
		}
	}
}

func TestScreenCountsEveryLane(t *testing.T) {
	now := time.Now()
	for _, room := range []int{1, 5, 63, 64, 100} {
		rows := laneRows(manyLanes(64, now).Lanes, now, room)[1:]
		require.LessOrEqual(t, len(rows), room)
		shown, left := len(rows), 0
		if shown < 64 {
			_, err := fmt.Sscanf(rows[len(rows)-1], "and %d lane", &left)
			require.NoError(t, err)
			shown--
		}
		require.Equal(t, 64, shown+left)
	}
}

func TestScreenSaysHowOldTheLanesAre(t *testing.T) {
	now := time.Date(2026, 11, 29, 12, 4, 0, 0, time.UTC)
	v := manyLanes(4, now)
	require.NotContains(t, drawScreen(v, now, 80, 24), "as of")
	require.Contains(t, drawScreen(v, now.Add(time.Minute), 80, 24), "lanes as of 2026-11-29T12:04:00Z, 1m0s ago", "the last values stay")
	v.LanesAt, v.Lanes = nil, nil
	require.Contains(t, drawScreen(v, now, 80, 24), "the lanes have not been read: ")
}

func TestOneShortReasonALine(t *testing.T) {
	v := manyLanes(16, time.Now())
	var out strings.Builder
	require.NoError(t, drawStatus(&out, v))
	require.Contains(t, out.String(), "skip|wait: incident gap, offsets [100, 200): the log of orders starts a…")
	out.Reset()
	sh := &shell{out: &out}
	require.NoError(t, showLane(sh, v, "orders/15"))
	require.Contains(t, out.String(), v.Lanes[15].Reason, "the long text")
	require.Contains(t, out.String(), "-> `millrace recover ls orders`")
	require.ErrorContains(t, showLane(sh, v, "orders/99"), "pipeline orders has no lane orders/99; its 16 lanes: orders/0, orders/1")
}

func TestCheckFailsOnWhatIsNotHealthy(t *testing.T) {
	var out strings.Builder
	sh := &shell{out: &out}
	v := manyLanes(16, time.Now())
	err := checkStatus(sh, v)
	require.Equal(t, ExitFailed, Code(err))
	require.ErrorContains(t, err, "pipeline orders is not healthy")
	require.Contains(t, out.String(), "pipeline orders: stalled: 1 of 16 lanes parked")
	require.Contains(t, out.String(), "! lane-parked orders/15 -> `millrace recover ls orders`: incident gap")
	v.Standing = contract.NewStanding(v.Pipeline, contract.StatePaused, 16,
		contract.IntentConditions(v.Pipeline, contract.StatePaused, "maintenance", time.Time{}), time.Now())
	out.Reset()
	require.NoError(t, checkStatus(sh, v))
	require.Contains(t, out.String(), "pipeline orders: paused on purpose since an unknown time: maintenance\n")
}

func TestLanesThatNobodyCommitsFor(t *testing.T) {
	now := time.Now()
	started := now.Add(-time.Hour)
	view := func() statusView {
		return statusView{State: contract.StateRunning, Since: &started, LanesAt: &now, Lanes: []laneLine{
			{Topic: "orders", Partition: 0, State: "committed", UpdatedAt: now.Add(-time.Second).UnixMilli()},
			{Topic: "orders", Partition: 1, State: "committed", UpdatedAt: now.Add(-time.Minute).UnixMilli()},
			{Topic: "orders", Partition: 2, State: "new"},
			{Topic: "orders", Partition: 3, State: "parked", UpdatedAt: now.Add(-time.Minute).UnixMilli()},
		}}
	}
	subjects := func(open bool, phase string, v statusView) (all []string) {
		f := &findings{pipeline: "orders", phase: phase, open: open, beats: map[string]report.LaneStatus{"orders/3": {State: "parked"}}}
		f.judgeLanes(&v, now)
		for _, c := range f.conditions {
			require.Equal(t, contract.ConditionLaneUnowned, c.Kind)
			require.False(t, c.Since.IsZero())
			all = append(all, c.Subject)
		}
		return all
	}
	require.Equal(t, []string{"orders/1", "orders/2"}, subjects(true, contract.StateRunning, view()),
		"a parked lane has an owner, and commits nothing")
	require.Empty(t, subjects(false, contract.StateRunning, view()), "nobody should own lanes of a pipeline that is stopped")
	require.Empty(t, subjects(true, contract.StateStopping, view()))
	young := view()
	young.Since = &now
	require.Equal(t, []string{"orders/1"}, subjects(true, contract.StateRunning, young), "a new lane may take a moment")
	old := view()
	past := now.Add(-time.Minute)
	old.LanesAt = &past
	require.Empty(t, subjects(true, contract.StateRunning, old), "values that are old themselves say nothing")
}

func TestAConditionSaysItsKindOnce(t *testing.T) {
	require.Equal(t, "failed -> `millrace start FILE`: no such topic",
		conditionLine(contract.Condition{
			Kind: contract.ConditionFailed, Subject: "failed", Command: "millrace start FILE", Reason: "no such topic",
		}))
	require.Equal(t, "failed terminated", conditionLine(contract.Condition{Kind: contract.ConditionFailed, Subject: "terminated"}))
}
