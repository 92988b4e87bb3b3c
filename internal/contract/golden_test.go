package contract

import (
	"cmp"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// structs are all types that stand in histories or in answers to clients.
var structs = []any{
	PipelineInput{}, PipelineState{}, PipelineResult{}, ReplicaInput{}, Placement{}, ReplicaResult{},
	CloseWindowsInput{}, CloseWindowsResult{}, CloseWindowInput{}, CloseWindowResult{}, StopSignal{}, ChildReport{}, ChildState{},
	FlushRequest{}, PauseRequest{}, ResumeRequest{}, ScaleRequest{}, StopRequest{},
	Receipt{}, report.LaneReceipt{}, report.LaneMissing{}, report.Emitted{}, AwaitRunningRequest{}, Running{}, From{}, LaneStart{}, Begin{},
	Begun{}, BeginLanesInput{},
	SpecInput{}, Topics{}, TopicInfo{}, Desired{}, PipelineRef{}, DesiredChange{}, WriteDesiredInput{}, WrittenDesired{},
	AwaitAppliedInput{}, Applied{}, report.LaneEnd{}, EndOffsets{}, AwaitDrainedInput{}, LaneState{}, ReconcileInput{}, Reconciled{},
	ReplicaRef{}, ClaimInput{}, Claimed{}, RunInput{}, RunResult{}, report.WindowRef{}, report.ClosedWindow{}, report.FailedWindow{},
	CloseDueInput{}, CloseDueResult{},
	CloseDueDetails{}, report.Kept{}, report.Waiting{}, report.Round{}, report.OpenTransaction{},
	report.Rollup{}, report.RolledFamily{}, report.Unfinished{},
	CloseOneInput{}, CloseOneResult{}, EmitInput{},
	report.RecoveryBatch{}, report.LaneRef{}, report.Storm{}, report.StormEvent{}, report.RecoveredLane{}, report.StepTime{},
	report.Incident{}, report.Choice{}, RecoverStepInput{}, report.LanePages{},
	report.StepReport{}, report.StepSums{}, report.RecoveryReport{}, DecideIncidentInput{}, DecidedIncident{}, LaneOwnersInput{}, LaneOwner{},
	LaneOwners{}, DecisionReceipt{}, LaneDecision{},
	RecoverInput{}, RecoverState{}, RecoverResult{}, RecoverTotals{}, RecoverStatus{}, DecideRequest{},
	report.LevelChange{}, report.LevelNumber{}, report.LevelStatus{}, LevelSignal{}, DegradeInput{}, DegradeState{},
	DegradedMachine{}, LevelTime{},
	WatchLevelInput{}, WatchLevelResult{}, OverrideLevelInput{}, LevelReceipt{}, MachineLevel{}, JournalAccountsInput{}, report.Account{},
	report.JournalAccounts{}, JournalProof{}, DegradeResult{}, DegradeStatus{}, LevelRequest{},
	report.ChainRef{}, report.WALChain{}, ListChainsInput{}, WALListing{}, ReplaySegmentInput{}, report.SettledChain{}, SegmentProgress{},
	ReplaySegmentResult{}, report.CorruptRange{}, ReplayWALInput{}, ReplayWALState{}, SettledRef{}, ReplayTotals{}, ReplayTotal{},
	ReplayWALResult{}, ReplayWALStatus{}, SegmentStatus{}, WALDecideRequest{},
	RemoveInput{}, RemoveTarget{}, Remains{}, KeyCount{}, TopicRemains{}, Holders{}, GroupMember{}, LeaseHolder{}, AwaitReleasedInput{},
	FenceLanesInput{}, EndLedgerInput{}, DeleteKeysInput{}, DeleteTopicsInput{}, Removed{}, RemoveStep{}, RemoveStatus{}, RemoveResult{},
	ApproveRequest{}, ApproveReceipt{},
	ReplayInput{}, ReplayRef{}, ReplayAsk{}, PlanReplayInput{}, PlannedReplay{}, ReplayPlan{}, LeftWindow{}, ReplayLane{}, ReplayRangeInput{},
	ReplayProgress{}, ReplayLanePart{}, ReplaySummary{}, WindowDifference{}, ShowDiffRequest{}, ShowDiffInput{}, DiffPage{}, DiffRow{},
	SetReplayRateInput{}, SetRateRequest{}, ApproveDiffRequest{}, RejectRequest{}, ReplayReceipt{}, SweptShadows{}, ReplayStatus{},
	ReplayResult{}, CarryOutJob{}, ShadowJob{}, RollupJob{}, ArchiveJob{}, CarriedOut{}, JobReport{}, JobCount{}, CarriedFamily{},
	CarriedWindow{}, JobTrouble{},
	report.Archived{}, report.ArchivedFamily{},
	CompactInput{}, CompactRef{}, PlannedCompact{}, TakeStockInput{}, Stock{}, StockFamily{}, CompactWork{},
	CompactStatus{}, CompactResult{},
	Pending{}, AwaitDetails{}, Past{}, Searchable{}, Refusal{}, HolderGone{}, HandOver{}, PlaceReceipt{},
	report.LevelOrder{}, DegradeRequest{}, OrderLevelsInput{}, OrderedLevels{}, OrderedLevel{},
	PipelineStatus{}, ReceiptHead{}, ReplicaStatus{}, CloseWindowsStatus{}, CloseWindowStatus{}, EngineStatus{},
	report.LaneStatus{}, report.RefusedRecords{}, report.RefusedRecord{}, report.LaneTimes{}, report.ClosingTimes{},
	report.DependencyStatus{}, ChildWaits{}, Wait{}, Condition{}, Standing{},
}

// goldenNames are the names by which the golden file knows structs that have another one now.
var goldenNames = map[string]string{"LaneRef": "BatchLane", "Incident": "LaneIncident", "Choice": "IncidentChoice"}

// fill sets every field to something that is not its zero value, so that omitempty hides nothing.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Float64:
		v.SetFloat(0.5)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		if v.Type() == reflect.TypeFor[json.RawMessage]() {
			v.SetBytes([]byte(`{"name":"orders"}`))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.MkdirAll("testdata", 0o755))
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got,
		"histories hold these; add, never change. If that is what you did: go test ./internal/contract -update")
}

func TestJSONOfEveryStruct(t *testing.T) {
	var b strings.Builder
	for _, s := range structs {
		v := reflect.New(reflect.TypeOf(s))
		fill(v.Elem())
		data, err := json.MarshalIndent(v.Interface(), "", "  ")
		require.NoError(t, err)
		name := v.Elem().Type().Name()
		b.WriteString(cmp.Or(goldenNames[name], name) + " " + string(data) + "\n\n")
	}
	golden(t, "structs.txt", b.String())
}

func TestNames(t *testing.T) {
	var lines []string
	for _, path := range []string{"names.go", reports + "names.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.ValueSpec); ok {
				lines = append(lines, v.Names[0].Name+" = "+v.Values[0].(*ast.BasicLit).Value)
			}
			return true
		})
	}
	ref := report.WindowRef{Window: "hourly", Start: 978307200000}
	for name, id := range map[string]string{
		"HostQueue": HostQueue("uuid"), "TaskQueue": TaskQueue, "PipelineID": PipelineID("orders"), "ReplicaID": ReplicaID("orders", 3),
		"DiskQueue": DiskQueue("uuid"), "RecoverLanesID": RecoverLanesID("orders", "uuid", 3), "ReplayWALID": ReplayWALID("orders", "uuid"),
		"RemoveID":          RemoveID("orders"),
		"CompactID":         CompactID("orders"),
		"ReplayID":          ReplayID("orders", "fix-1"),
		"RecountScheduleID": RecountScheduleID("orders"),
		"DegradeID":         DegradeID("orders", "eu/w1", report.DependencyRedis),
		"CloseWindowsID":    CloseWindowsID("orders"), "CloseWindowID": CloseWindowID("orders", ref),
	} {
		require.NotContains(t, id, "/", "Temporal's HTTP API refuses it")
		lines = append(lines, name+" -> "+id)
	}
	sort.Strings(lines)
	golden(t, "names.txt", strings.Join(lines, "\n")+"\n")
}

// reports is the directory of the structs and names that the contract shares with the hot path.
const reports = "../../pipeline/report/"

// Every exported struct of the package, and of the reports, is in the list above.
func TestEveryStructIsListed(t *testing.T) {
	// A row of a table in the code, and what a worker alone knows of a decision, travel nowhere.
	listed := map[string]bool{"StuckState": true, "Decision": true}
	for _, s := range structs {
		listed[reflect.TypeOf(s).Name()] = true
	}
	paths, err := filepath.Glob("*.go")
	require.NoError(t, err)
	shared, err := filepath.Glob(reports + "*.go")
	require.NoError(t, err)
	require.NotEmpty(t, shared)
	for _, path := range append(paths, shared...) {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if v, ok := n.(*ast.TypeSpec); ok {
				if _, isStruct := v.Type.(*ast.StructType); isStruct && v.Name.IsExported() {
					require.True(t, listed[v.Name.Name], "%s is missing in structs", v.Name.Name)
				}
			}
			return true
		})
	}
}
