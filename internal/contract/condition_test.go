package contract

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 11, 29, 12, 4, 0, 0, time.UTC)

func TestFirstLineSpeaksOfTheWorst(t *testing.T) {
	parked := func(n int) (all []Condition) {
		for i := range n {
			all = append(all, Condition{Kind: ConditionLaneParked, Subject: fmt.Sprintf("orders/%d", i), Command: "millrace recover decide W --all CHOICE"})
		}
		return all
	}
	degraded := Condition{Kind: ConditionDegraded, Subject: "redis on w", Reason: "journal: 3 of 3 probes failed", Since: noon}
	tests := []struct {
		name       string
		phase      string
		conditions []Condition
		line       string
		healthy    bool
	}{
		{"nothing", StateRunning, nil, "running", true},
		{"degraded", StateRunning, []Condition{degraded}, "degraded (redis on w: journal: 3 of 3 probes failed since 12:04:00)", false},
		{"degraded, with what follows from it", StateRunning, []Condition{
			{Kind: ConditionClosingFails, Subject: "close:orders", Reason: "EOF"}, {Kind: ConditionCommandsUnread, Subject: "replica:orders:0"}, degraded,
		}, "degraded (redis on w: journal: 3 of 3 probes failed since 12:04:00); and 2 more", false},
		{"parked", StateRunning, append([]Condition{degraded}, parked(4)...),
			"stalled: 4 of 4 lanes parked, decide with `millrace recover decide W --all CHOICE`; and 1 more", false},
		{"known twice", StateRunning, append(parked(1), Condition{Kind: ConditionLaneParked, Subject: "orders/0"}),
			"stalled: 1 of 4 lanes parked, decide with `millrace recover decide W --all CHOICE`", false},
		{"paused on purpose", StatePaused, IntentConditions("orders", StatePaused, "maintenance", noon), "paused on purpose since 12:04:00: maintenance", true},
		{"paused and parked", StatePaused, append(IntentConditions("orders", StatePaused, "", noon), parked(1)...),
			"stalled: 1 of 4 lanes parked, decide with `millrace recover decide W --all CHOICE`; and 1 more", false},
		{"yesterday", StateRunning, []Condition{{Kind: ConditionDegraded, Subject: "redis on w", Reason: "away", Since: noon.AddDate(0, 0, -1)}},
			"degraded (redis on w: away since 2026-11-28 12:04:00)", false},
		{"a long reason", StateRunning, []Condition{{Kind: ConditionSeeking, Subject: "r", Reason: strings.Repeat("x", 500) + "\nsecond line"}},
			"seeking: r: " + strings.Repeat("x", 120) + "...", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStanding(tt.phase, 4, tt.conditions, noon.Add(time.Hour))
			require.Equal(t, tt.line, s.Line)
			require.Equal(t, tt.healthy, s.Healthy)
		})
	}
}

func TestLanesStandInTheOrderOfTheirPartitions(t *testing.T) {
	var all []Condition
	for _, lane := range []string{"orders/17", "orders/3", "payments/1", "orders/41"} {
		all = append(all, Condition{Kind: ConditionLaneParked, Subject: lane})
	}
	var order []string
	for _, c := range NewStanding(StateRunning, 64, all, noon).Conditions {
		order = append(order, c.Subject)
	}
	require.Equal(t, []string{"orders/3", "orders/17", "orders/41", "payments/1"}, order)
}

func TestStandingIsBounded(t *testing.T) {
	var all []Condition
	for i := range 256 {
		all = append(all, Condition{Kind: ConditionLaneParked, Subject: fmt.Sprint(i)})
	}
	s := NewStanding(StateRunning, 256, all, noon)
	require.Len(t, s.Conditions, MaxConditions)
	require.Equal(t, 256-MaxConditions, s.More)
	require.Contains(t, s.Line, "256 of 256 lanes parked")
}

// What a worker's heartbeat says and what its Degrade reports are one condition.
func TestTwoSourcesOfOneDegradation(t *testing.T) {
	status := DependencyStatus{Dependency: DependencyRedis, Level: LevelJournal, Since: noon, Reason: "away", Worker: "host/1:77"}
	heard := EngineConditions(EngineStatus{Pipeline: "orders", Dependencies: []DependencyStatus{status}}, noon)
	told := ChildConditions("orders", ChildState{ID: DegradeID("orders", "host/1:77", DependencyRedis), State: LevelJournal, Note: "away", Since: noon})
	require.Len(t, NewStanding(StateRunning, 4, append(heard, told...), noon).Conditions, 1)
}

// What a hot path cannot read in Redis stops no lane: it goes on as it was told last.
func TestUnreadCommandsStopNothing(t *testing.T) {
	found := EngineConditions(EngineStatus{Pipeline: "orders", Unread: "connection refused"}, noon)
	require.Len(t, found, 1)
	require.Equal(t, ConditionCommandsUnread, found[0].Kind)
	require.True(t, HealthyKind(found[0].Kind))
}

func TestLevelsMeanWhatTheyStop(t *testing.T) {
	tests := []struct {
		status DependencyStatus
		kind   string
	}{
		{DependencyStatus{Dependency: DependencyRedis, Level: LevelNormal}, ""},
		{DependencyStatus{Dependency: DependencyRedis, Level: LevelJournal}, ConditionDegraded},
		{DependencyStatus{Dependency: DependencyRedis, Level: LevelThrottled}, ConditionDegraded},
		{DependencyStatus{Dependency: DependencyRedis, Level: LevelPaused}, ConditionHeld},
		{DependencyStatus{Dependency: DependencyResults, Level: LevelPaused}, ConditionDegraded},
		{DependencyStatus{Dependency: DependencyRedis, Level: LevelJournal, Override: OverrideOpen}, ConditionOverride},
	}
	for _, tt := range tests {
		found := levelConditions("orders", tt.status)
		if tt.kind == "" {
			require.Empty(t, found)
			continue
		}
		require.Equal(t, tt.kind, found[0].Kind, "%+v", tt.status)
	}
}

// An order that keeps commits in the journal keeps windows open, and what an operator wants names the command that ends it.
func TestOrdersSayWhatTheyStopAndHowTheyEnd(t *testing.T) {
	held := levelConditions("orders", DependencyStatus{Dependency: DependencyRedis, Level: LevelJournal, Override: OverrideHold, Reason: "night"})
	require.Equal(t, "hold at level journal, no window closes: night", held[0].Reason)
	held = levelConditions("orders", DependencyStatus{Dependency: DependencyRedis, Level: LevelNormal, Override: OverrideHold, Reason: "night"})
	require.Equal(t, "hold at level normal: night", held[0].Reason)
	for phase, command := range map[string]string{StatePaused: "millrace resume orders", StateStopped: "millrace start FILE", StateDraining: ""} {
		require.Equal(t, command, IntentConditions("orders", phase, "", noon)[0].Command)
	}
}

func TestLanesThatWereNotReadAreNotThere(t *testing.T) {
	require.Equal(t, "the lanes have not been read yet", AwaitDetails{}.String())
	require.Equal(t, "all 2 lanes are there", AwaitDetails{Done: 2}.String())
}

// Every kind has a row that says what it means and what leads out, and every row is of a kind.
func TestStuckStatesAreComplete(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range StuckStates() {
		require.False(t, seen[s.Kind], "%s stands twice", s.Kind)
		seen[s.Kind] = true
		for name, text := range map[string]string{"line": s.Line, "means": s.Means, "bound": s.Bound, "way out": s.WayOut} {
			require.NotEmpty(t, text, "%s: %s", s.Kind, name)
		}
	}
	for _, kind := range conditionKinds(t) {
		require.True(t, seen[kind], "%s has no row", kind)
	}
	require.Len(t, seen, len(conditionKinds(t)))
}

// conditionKinds are the values of all constants named Condition...
func conditionKinds(t *testing.T) (kinds []string) {
	file, err := parser.ParseFile(token.NewFileSet(), "stuckstates.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Condition") {
			kind, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			kinds = append(kinds, kind)
		}
		return true
	})
	return kinds
}

func TestWatermarkAheadOfTheClock(t *testing.T) {
	at := func(ahead time.Duration) []Condition {
		return EngineConditions(EngineStatus{Pipeline: "orders", Lanes: []LaneStatus{{
			Topic: "orders", Partition: 2, State: StateRunning, Watermark: noon.Add(ahead).UnixMilli(),
		}}}, noon)
	}
	require.Empty(t, at(0))
	require.Empty(t, at(23*time.Hour))
	found := at(25 * time.Hour)
	require.Len(t, found, 1)
	require.Equal(t, ConditionWatermarkAhead, found[0].Kind)
	require.Equal(t, "orders/2", found[0].Subject)
	require.Equal(t, "it is 2026-11-30T13:04:00Z, ahead of the clock: what is older counts as late", found[0].Reason)
	require.Contains(t, found[0].Command, "millrace watermark reset orders")
	require.Empty(t, EngineConditions(EngineStatus{Pipeline: "orders", Lanes: []LaneStatus{{Topic: "orders"}}}, noon), "there is none yet")
}

// A blocked window says since when it is one and which workflow shows its last try; a closer of an older release knows neither.
func TestBlockedWindowNamesItsWorkflow(t *testing.T) {
	began, blocked := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)
	id := CloseWindowID("orders", WindowRef{Window: "hourly", Start: 978_325_200_000})
	wait := Wait{For: "hourly 2001-01-01T05:00:00Z", Why: "checksum", Since: blocked, ID: id}
	closer := ChildState{ID: CloseWindowsID("orders"), State: ChildClosing, Since: began, ChildWaits: ChildWaits{Waits: []Wait{wait, {For: "old"}}}}
	got := ChildConditions("orders", closer)
	require.Len(t, got, 2)
	require.Equal(t, blocked, got[0].Since)
	require.Equal(t, "temporal workflow describe --workflow-id close:orders:hourly:978325200000", got[0].Command)
	require.Equal(t, began, got[1].Since)
	require.Contains(t, got[1].Command, "temporal workflow list --query")
}
