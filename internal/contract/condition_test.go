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

	"millrace/pipeline/report"
)

var noon = time.Date(2026, 11, 29, 12, 4, 0, 0, time.UTC)

func TestFirstLineSpeaksOfTheWorst(t *testing.T) {
	const decide = "millrace recover decide W --all CHOICE"
	parked := func(n int) (all []Condition) {
		for i := range n {
			all = append(all, Condition{Kind: ConditionLaneParked, Subject: fmt.Sprintf("orders/%d", i), Command: decide})
		}
		return all
	}
	degraded := Condition{Kind: ConditionDegraded, Subject: "redis on w", Reason: "journal: 3 of 3 probes failed", Since: noon}
	const degradedLine = "degraded (redis on w: journal: 3 of 3 probes failed since 12:04:00)"
	const parkedLine = "stalled: 1 of 4 lanes parked, decide with `" + decide + "`"
	paused := IntentConditions("orders", StatePaused, "maintenance", noon)
	tests := []struct {
		name       string
		phase      string
		conditions []Condition
		line       string
		healthy    bool
	}{
		{"nothing", StateRunning, nil, "running", true},
		{"degraded", StateRunning, []Condition{degraded}, degradedLine, false},
		{"degraded, with what follows from it", StateRunning, []Condition{
			{Kind: ConditionClosingFails, Subject: "close:orders", Reason: "EOF"},
			{Kind: ConditionCommandsUnread, Subject: "replica:orders:0"}, degraded,
		}, degradedLine + "; and 2 more", false},
		{"degraded on several workers", StateRunning, []Condition{
			degraded, {Kind: ConditionDegraded, Subject: "redis on x"}, {Kind: ConditionDegraded, Subject: "redis on y"},
		}, degradedLine + "; and 2 more", false},
		{"parked", StateRunning, append([]Condition{degraded}, parked(4)...),
			"stalled: 4 of 4 lanes parked, decide with `" + decide + "`; and 1 more", false},
		{"known twice", StateRunning, append(parked(1), Condition{Kind: ConditionLaneParked, Subject: "orders/0"}), parkedLine, false},
		{"known twice, the other way round", StateRunning,
			append([]Condition{{Kind: ConditionLaneParked, Subject: "orders/0"}}, parked(1)...),
			parkedLine, false},
		{"two recoveries ask", StateRunning,
			append(parked(2), Condition{Kind: ConditionLaneParked, Subject: "orders/3", Command: "decide V"}),
			"stalled: 3 of 4 lanes parked, 2 recoveries ask, see `millrace recover ls orders`", false},
		{"no recovery has told yet", StateRunning, []Condition{{Kind: ConditionLaneParked, Subject: "orders/0"}},
			"stalled: 1 of 4 lanes parked, see `millrace recover ls orders`", false},
		{"paused on purpose", StatePaused, paused, "paused on purpose since 12:04:00: maintenance", true},
		{"paused and parked", StatePaused, append(paused, parked(1)...), parkedLine + "; and 1 more", false},
		{"yesterday", StateRunning,
			[]Condition{{Kind: ConditionDegraded, Subject: "redis on w", Reason: "away", Since: noon.AddDate(0, 0, -1)}},
			"degraded (redis on w: away since 2026-11-28 12:04:00)", false},
		{"a long reason", StateRunning,
			[]Condition{{Kind: ConditionSeeking, Subject: "r", Reason: strings.Repeat("x", 500) + "\nsecond line"}},
			"seeking: r: " + strings.Repeat("x", 120) + "...", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := NewStanding("orders", tt.phase, 4, tt.conditions, noon.Add(time.Hour))
			require.Equal(t, tt.line, s.Line)
			require.Equal(t, tt.healthy, s.Healthy)
		})
	}
}

// A worker's /health knows no recovery and no number of lanes, but the way out all the same.
func TestParkedLanesNameTheWayOut(t *testing.T) {
	parked := EngineConditions(EngineStatus{
		Pipeline: "orders", Lanes: []report.LaneStatus{{Topic: "orders", State: laneStateParked, Reason: "incident gap"}},
	}, true, noon)
	s := NewStanding("orders", StateRunning, 0, parked, noon)
	require.Equal(t, "stalled: 1 lane parked, see `millrace recover ls orders`", s.Line)
	require.Equal(t, "millrace recover ls orders", s.Conditions[0].Command)
}

// A report names some of the lanes that wait and counts the others; a heartbeat may name those.
func TestLanesThatAReportDoesNotNameCount(t *testing.T) {
	recovery := ChildState{ID: RecoverLanesID("orders", "p", 3), State: StateDeciding, ChildWaits: ChildWaits{MoreWaits: 44}}
	for i := range MaxWaits {
		recovery.Waits = append(recovery.Waits, Wait{For: fmt.Sprintf("orders/%d", i), Why: "gap"})
	}
	told := ChildConditions("orders", true, recovery)
	s := NewStanding("orders", StateRunning, 64, told, noon)
	require.Contains(t, s.Line, "stalled: 64 of 64 lanes parked, decide with ")
	require.Len(t, s.Conditions, MaxWaits)
	require.Equal(t, 44, s.More)
	var beat EngineStatus
	for i := range 64 {
		beat.Lanes = append(beat.Lanes, report.LaneStatus{Topic: "orders", Partition: int32(i), State: laneStateParked})
	}
	s = NewStanding("orders", StateRunning, 64, append(told, EngineConditions(beat, true, noon)...), noon)
	require.Contains(t, s.Line, "stalled: 64 of 64 lanes parked, decide with ")
	require.Zero(t, s.More)

	closer := ChildState{ID: CloseWindowsID("orders"), State: ChildClosing, ChildWaits: ChildWaits{
		Waits: []Wait{{For: "hourly 2001-01-01T05:00:00Z", Why: "too large"}}, MoreWaits: 80,
	}}
	s = NewStanding("orders", StateRunning, 64, ChildConditions("orders", true, closer), noon)
	require.Equal(t, "closing blocked: window hourly 2001-01-01T05:00:00Z: too large; and 80 more", s.Line)
}

func TestLanesStandInTheOrderOfTheirPartitions(t *testing.T) {
	var all []Condition
	for _, lane := range []string{"orders/17", "orders/3", "payments/1", "orders/41"} {
		all = append(all, Condition{Kind: ConditionLaneParked, Subject: lane})
	}
	var order []string
	for _, c := range NewStanding("orders", StateRunning, 64, all, noon).Conditions {
		order = append(order, c.Subject)
	}
	require.Equal(t, []string{"orders/3", "orders/17", "orders/41", "payments/1"}, order)
}

func TestStandingIsBounded(t *testing.T) {
	var all []Condition
	for i := range 256 {
		all = append(all, Condition{Kind: ConditionLaneParked, Subject: fmt.Sprint(i)})
	}
	s := NewStanding("orders", StateRunning, 256, all, noon)
	require.Len(t, s.Conditions, MaxConditions)
	require.Equal(t, 256-MaxConditions, s.More)
	require.Contains(t, s.Line, "256 of 256 lanes parked")
}

// What a worker's heartbeat says and what its Degrade reports are one condition.
func TestTwoSourcesOfOneDegradation(t *testing.T) {
	status := report.DependencyStatus{Dependency: report.DependencyRedis, Level: report.LevelJournal, Since: noon, Reason: "away",
		Worker: "host/1:77"}
	heard := EngineConditions(EngineStatus{Pipeline: "orders", Dependencies: []report.DependencyStatus{status}}, true, noon)
	told := ChildConditions("orders", true, ChildState{
		ID: DegradeID("orders", "host/1:77", report.DependencyRedis), State: string(report.LevelJournal), Note: "away", Since: noon,
	})
	require.Len(t, NewStanding("orders", StateRunning, 4, append(heard, told...), noon).Conditions, 1)
}

// What a hot path cannot read in Redis stops no lane: it goes on as it was told last.
func TestUnreadCommandsStopNothing(t *testing.T) {
	found := EngineConditions(EngineStatus{Pipeline: "orders", Unread: "connection refused"}, true, noon)
	require.Len(t, found, 1)
	require.Equal(t, ConditionCommandsUnread, found[0].Kind)
	require.True(t, HealthyKind(found[0].Kind))
}

func TestLevelsMeanWhatTheyStop(t *testing.T) {
	const redis, results = report.DependencyRedis, report.DependencyResults
	tests := []struct {
		status  report.DependencyStatus
		journal bool
		kind    string
	}{
		{report.DependencyStatus{Dependency: redis, Level: report.LevelNormal}, true, ""},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelJournal}, true, ConditionDegraded},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelThrottled}, true, ConditionDegraded},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelPaused}, true, ConditionHeld},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelPaused}, false, ConditionHeld},
		{report.DependencyStatus{Dependency: redis, Level: ChildEnded}, true, ""},
		{report.DependencyStatus{Dependency: results, Level: report.LevelPaused}, true, ConditionDegraded},

		{report.DependencyStatus{Dependency: redis, Level: report.LevelNormal, Override: report.OverrideHold}, true, ConditionOverride},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelNormal, Override: report.OverrideClose}, true, ConditionOverride},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelJournal, Override: report.OverrideOpen}, true, ConditionClosingSuspended},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelThrottled, Override: report.OverrideHold}, true,
			ConditionClosingSuspended},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelPaused, Override: report.OverrideOpen}, true, ConditionHeld},
		{report.DependencyStatus{Dependency: redis, Level: report.LevelPaused, Override: report.OverrideOpen}, false, ConditionOverride},
		{report.DependencyStatus{Dependency: results, Level: report.LevelPaused, Override: report.OverrideOpen}, true, ConditionClosingSuspended},
	}
	for _, tt := range tests {
		found := levelConditions("orders", tt.journal, tt.status)
		if tt.kind == "" {
			require.Empty(t, found)
			continue
		}
		require.Equal(t, tt.kind, found[0].Kind, "%+v", tt.status)
	}
}

// An order that keeps windows open is on purpose, and the first line says what it costs. A journal that is full under an order is
// nobody's purpose.
func TestOrdersSayWhatTheyStop(t *testing.T) {
	line := func(level report.Level, override report.Override) (string, bool) {
		s := NewStanding("orders", StateRunning, 4, levelConditions("orders", true, report.DependencyStatus{
			Dependency: report.DependencyRedis, Level: level, Override: override, Reason: "night", Worker: "w", Since: noon,
		}), noon)
		return s.Line, s.Healthy
	}
	for _, tt := range []struct {
		level    report.Level
		override report.Override
		line     string
		healthy  bool
	}{
		{report.LevelNormal, report.OverrideHold, "running, redis on w held by an operator: hold at level normal: night", true},
		{report.LevelJournal, report.OverrideOpen, "running, but no window closes: redis on w held by an operator: open at level " +
			"journal: night", true},
		{report.LevelPaused, report.OverrideOpen, "stalled: redis on w takes no commits since 12:04:00 and nothing can be journalled " +
			"(open at level paused: night; the journal takes no more)", false},
	} {
		text, healthy := line(tt.level, tt.override)
		require.Equal(t, tt.line, text)
		require.Equal(t, tt.healthy, healthy, tt.line)
	}
}

// The order on all workers means what it means on each of them.
func TestOrdersOnAllWorkers(t *testing.T) {
	for _, tt := range []struct {
		order   report.LevelOrder
		journal bool
		kind    string
	}{
		{report.LevelOrder{Dependency: report.DependencyRedis, Override: report.OverrideOpen}, true, ConditionClosingSuspended},
		{report.LevelOrder{Dependency: report.DependencyRedis, Override: report.OverrideOpen}, false, ConditionOverride},
		{report.LevelOrder{Dependency: report.DependencyResults, Override: report.OverrideOpen}, false, ConditionClosingSuspended},
		{report.LevelOrder{Dependency: report.DependencyRedis, Override: report.OverrideHold}, true, ConditionOverride},
		{report.LevelOrder{Dependency: report.DependencyRedis, Override: report.OverrideClose}, true, ConditionOverride},
	} {
		require.Equal(t, tt.kind, OrderConditions("orders", tt.journal, []report.LevelOrder{tt.order})[0].Kind, "%+v", tt)
	}
}

// An order on all workers is one fact, however many workers tell that they follow it; a worker that stands otherwise counts.
func TestAnOrderOnAllWorkersIsToldOnce(t *testing.T) {
	order := OrderConditions("orders", true, []report.LevelOrder{{
		Dependency: report.DependencyRedis, Override: report.OverrideOpen, By: "update u", Reason: "maintenance",
	}})
	on := func(worker string, level report.Level) []Condition {
		return levelConditions("orders", true, report.DependencyStatus{
			Dependency: report.DependencyRedis, Level: level, Override: report.OverrideOpen, Worker: worker, Reason: "maintenance",
		})
	}
	told := append(append(order, on("a", report.LevelJournal)...), on("b", report.LevelThrottled)...)
	s := NewStanding("orders", StateRunning, 4, told, noon)
	require.Equal(t, "running, but no window closes: redis held by an operator: open on all workers by update u: maintenance", s.Line)
	require.Len(t, s.Conditions, 1)
	s = NewStanding("orders", StateRunning, 4, append(told, on("c", report.LevelPaused)...), noon)
	require.False(t, s.Healthy)
	require.Len(t, s.Conditions, 2)
}

// What an operator wants names the command that ends it.
func TestIntentsSayHowTheyEnd(t *testing.T) {
	for phase, command := range map[string]string{
		StatePaused: "millrace resume orders", StateStopped: "millrace start FILE", StateDraining: "",
	} {
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
		return EngineConditions(EngineStatus{Pipeline: "orders", Lanes: []report.LaneStatus{{
			Topic: "orders", Partition: 2, State: StateRunning, Watermark: noon.Add(ahead).UnixMilli(),
		}}}, true, noon)
	}
	require.Empty(t, at(0))
	require.Empty(t, at(23*time.Hour))
	found := at(25 * time.Hour)
	require.Len(t, found, 1)
	require.Equal(t, ConditionWatermarkAhead, found[0].Kind)
	require.Equal(t, "orders/2", found[0].Subject)
	require.Equal(t, "it is 2026-11-30T13:04:00Z, ahead of the clock: what is older counts as late", found[0].Reason)
	require.Contains(t, found[0].Command, "millrace watermark reset orders")
	require.Empty(t, EngineConditions(EngineStatus{Pipeline: "orders", Lanes: []report.LaneStatus{{Topic: "orders"}}}, true, noon),
		"there is none yet")
}

// A blocked window says since when it is one and which workflow shows its last try; a closer of an older release knows neither.
func TestBlockedWindowNamesItsWorkflow(t *testing.T) {
	began, blocked := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), time.Date(2026, 11, 29, 13, 0, 0, 0, time.UTC)
	id := CloseWindowID("orders", report.WindowRef{Window: "hourly", Start: 978_325_200_000})
	wait := Wait{For: "hourly 2001-01-01T05:00:00Z", Why: "checksum", Since: blocked, ID: id}
	closer := ChildState{ID: CloseWindowsID("orders"), State: ChildClosing, Since: began,
		ChildWaits: ChildWaits{Waits: []Wait{wait, {For: "old"}}}}
	got := ChildConditions("orders", true, closer)
	require.Len(t, got, 2)
	require.Equal(t, blocked, got[0].Since)
	require.Equal(t, "temporal workflow describe --workflow-id close:orders:hourly:978325200000", got[0].Command)
	require.Equal(t, began, got[1].Since)
	require.Contains(t, got[1].Command, "temporal workflow list --query")
}

// Readers of results wait for a transaction that is open for long.
func TestALongTransactionIsACondition(t *testing.T) {
	now := time.Unix(1000, 0)
	details := CloseDueDetails{Open: &report.OpenTransaction{
		Window: report.WindowRef{Window: "hourly", Start: 0}, Revision: 2, Since: now.Add(-LongTransaction).UnixMilli(), Rows: 7,
	}}
	require.Equal(t, []Condition{{
		Kind: ConditionLongTransaction, Subject: "window hourly 1970-01-01T00:00:00Z", Since: now.Add(-LongTransaction).UTC(),
		Reason: "7 rows of revision 2 so far; readers of the result topic wait for its end",
	}}, CloserConditions("orders", details, now))
	require.Empty(t, CloserConditions("orders", details, now.Add(-time.Millisecond)))
}
