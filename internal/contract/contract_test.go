package contract

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func TestPipelineInputForms(t *testing.T) {
	tests := []struct {
		name, json string
		spec       string
		unknown    []string
		state      bool
	}{
		{"bare spec", `{"name":"orders","replicas":2}`, `{"name":"orders","replicas":2}`, nil, false},
		{"long form", `{"version":1,"spec":{"name":"orders"},"state":{"replicas":3}}`, `{"name":"orders"}`, nil, true},
		{"misspelt beside the spec", `{"spec":{"name":"orders"},"replcas":3}`, `{"name":"orders"}`, []string{"replcas"}, false},
		{"another case", `{"spec":{},"State":{}}`, `{}`, []string{"State"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var in PipelineInput
			require.NoError(t, json.Unmarshal([]byte(tt.json), &in))
			require.JSONEq(t, tt.spec, string(in.Spec))
			require.Equal(t, tt.unknown, in.Unknown)
			require.Equal(t, tt.state, in.State != nil)
		})
	}
	for bad, says := range map[string]string{
		`[ 1 ]`: "the input is [1]; want a spec, an object with fields", `"orders"`: `the input is "orders"; want a spec`,
		`{"spec":{},"state":{"replicas":"two"}}`: `state.replicas is a string; want a whole number`,
	} {
		var in PipelineInput
		require.NoError(t, json.Unmarshal([]byte(bad), &in), bad)
		require.Contains(t, in.Wrong, says)
	}
	require.Error(t, json.Unmarshal([]byte(`{"spec":`), new(PipelineInput)))
}

// level is a LevelRequest with the update it comes with.
type level struct {
	update string
	*LevelRequest
}

func (l level) Validate() error { return l.LevelRequest.Validate(l.update) }

func TestRequestsRefuseUnknownFieldsByName(t *testing.T) {
	tests := []struct {
		name, json string
		into       interface{ Validate() error }
		want       string // "" is valid
	}{
		{"empty flush", `{}`, &FlushRequest{}, ""},
		{"null", `null`, &PauseRequest{}, ""},
		{"flush with a stranger", `{"drain":true}`, &FlushRequest{}, `flush: unknown field "drain"; want only reason`},
		{"two strangers, sorted", `{"b":1,"a":2}`, &PauseRequest{}, `pause: unknown fields "a, b"`},
		{"another case", `{"Reason":"x"}`, &ResumeRequest{}, `unknown field "Reason"`},
		{"the collector's own name", `{"-":1}`, &ResumeRequest{}, `unknown field "-"`},
		{"scale", `{"replicas":3}`, &ScaleRequest{}, ""},
		{"scale to nothing", `{}`, &ScaleRequest{}, "scale: replicas is 0; want 1 to 256"},
		{"scale too far", `{"replicas":257}`, &ScaleRequest{}, "want 1 to 256"},
		{"misspelt scale", `{"replica":3}`, &ScaleRequest{}, `unknown field "replica"; want only replicas, reason`},
		{"stop", `{}`, &StopRequest{}, ""},
		{"drain", `{"drain":true,"timeout_seconds":60}`, &StopRequest{}, ""},
		{"timeout without drain", `{"timeout_seconds":60}`, &StopRequest{}, `add "drain": true`},
		{"decide", `{"topic":"orders","partition":0,"choice":"skip"}`, &DecideRequest{}, ""},
		{"decide without a partition", `{"topic":"orders","choice":"skip"}`, &DecideRequest{}, "topic, partition and choice are needed"},
		{"misspelt decide", `{"topc":"orders","partition":0,"choice":"skip"}`, &DecideRequest{},
			`decide: unknown field "topc"; want only topic, partition, all, choice, reason`},
		{"long reason", `{"topic":"orders","partition":0,"choice":"skip","reason":"` + strings.Repeat("x", MaxText+1) + `"}`,
			&DecideRequest{}, "reason has 2001 bytes"},
		{"quarantine", `{"choice":"quarantine"}`, &WALDecideRequest{}, ""},
		{"no choice", `{}`, &WALDecideRequest{}, `choice is ""; want "quarantine"`},
		{"hold", `{"reason":"x"}`, &level{UpdateHold, new(LevelRequest)}, ""},
		{"misspelt auto", `{"raeson":"x"}`, &level{UpdateAuto, new(LevelRequest)}, `auto: unknown field "raeson"; want only reason`},
		{"negative timeout", `{"drain":true,"timeout_seconds":-1}`, &StopRequest{}, "timeout_seconds is -1"},
		{"drain that is a text", `{"drain":"yes"}`, &StopRequest{}, `stop: drain is "yes"; want true or false`},
		{"timeout with a unit", `{"drain":true,"timeout_seconds":"1m"}`, &StopRequest{},
			`stop: timeout_seconds is "1m"; want whole seconds, 0 (the default, 1h) to 604800`},
		{"half a replica", `{"replicas":1.5}`, &ScaleRequest{}, "scale: replicas is 1.5; want a whole number, 1 to 256"},
		{"reason that is a list", `{"reason":["a", "b"]}`, &FlushRequest{}, `flush: reason is ["a","b"]; want a text`},
		{"no object", `[true]`, &PauseRequest{}, "pause: the input is [true]; want an object with fields"},
		{"partition that is a text", `{"topic":"orders","partition":"0","choice":"skip"}`, &DecideRequest{},
			`decide: partition is "0"; want a whole number, from 0`},
		{"partition below 0", `{"topic":"orders","partition":-1,"choice":"skip"}`, &DecideRequest{}, "decide: partition is -1"},
		{"wal choice", `{"choice":1}`, &WALDecideRequest{}, "decide: choice is 1; want a text"},
		{"hold for a number", `{"reason":7}`, &level{UpdateHold, new(LevelRequest)}, "hold: reason is 7; want a text"},
		{"approve", `{"reason":{}}`, &ApproveRequest{}, "approve: reason is {}; want a text"},
		{"removal", `{"pipeline":"orders","grace_seconds":86400}`, &RemoveInput{}, ""},
		{"grace with a unit", `{"pipeline":"orders","grace_seconds":"1m"}`, &RemoveInput{},
			`remove: grace_seconds is "1m"; want whole seconds, 1 to 86400`},
		{"grace of half a second", `{"pipeline":"orders","grace_seconds":1.5}`, &RemoveInput{},
			`remove: grace_seconds is 1.5; want whole seconds, 1 to 86400`},
		{"eternal grace", `{"pipeline":"orders","grace_seconds":86401}`, &RemoveInput{},
			"remove: grace_seconds is 86401; want whole seconds, 1 to 86400, or 0 for the default"},
		{"grace beyond every integer", `{"pipeline":"orders","grace_seconds":99999999999999999999}`, &RemoveInput{},
			"want whole seconds, 1 to 86400"},
		{"removal of a list", `{"pipeline":["orders"]}`, &RemoveInput{}, `remove: pipeline is ["orders"]; want a text`},
		{"removal of no name", `{"pipeline":"Bad/Name"}`, &RemoveInput{},
			`remove: pipeline: "Bad/Name" is not a name; want 1 to 64 of a-z`},
		{"replay", `{"pipeline":"orders","from":"2001-01-01T00:00:00Z","to":"2001-01-02T00:00:00+01:00"}`, &ReplayInput{}, ""},
		{"replay without a range", `{"pipeline":"orders","from":"2001-01-01T00:00:00Z"}`, &ReplayInput{},
			`replay: the range is missing; want "from" and "to", or "yesterday": true`},
		{"replay of a day", `{"pipeline":"orders","from":"2001-01-01","to":"2001-01-02T00:00:00Z"}`, &ReplayInput{},
			`replay: from is "2001-01-01"; want a time as RFC 3339, such as 2001-01-31T00:00:00Z`},
		{"replay backwards", `{"pipeline":"orders","from":"2001-01-02T00:00:00Z","to":"2001-01-01T00:00:00Z"}`, &ReplayInput{},
			"want a range that ends after its start"},
		{"misspelt replay", `{"pipeline":"orders","fron":1}`, &ReplayInput{}, `replay: unknown field "fron"; want only pipeline, from`},
		{"recount", `{"pipeline":"orders","recount":true,"yesterday":true,"scope":"whole"}`, &ReplayInput{}, ""},
		{"recount of two ranges", `{"pipeline":"orders","recount":true,"yesterday":true,"to":"2001-01-01T00:00:00Z"}`, &ReplayInput{},
			"recount: yesterday is true and from or to is given"},
		{"recount with another spec", `{"pipeline":"orders","recount":true,"yesterday":true,"spec":{}}`, &ReplayInput{},
			"recount: a recount counts as the pipeline did: leave out spec"},
		{"lateness of an hour", `{"pipeline":"orders","yesterday":true,"lateness":"1h"}`, &ReplayInput{},
			`replay: lateness is "1h"; want "as-read" or "none"`},
		{"late events of no lateness", `{"pipeline":"orders","yesterday":true,"lateness":"none","from_late":true}`, &ReplayInput{},
			`with lateness "none" nothing is late`},
		{"scope of a replay", `{"pipeline":"orders","yesterday":true,"scope":"whole"}`, &ReplayInput{}, "replay: scope is of a recount"},
		{"replay at a rate with a unit", `{"pipeline":"orders","yesterday":true,"rate":"1k"}`, &ReplayInput{},
			`replay: rate is "1k"; want whole records a second, 1 to 100000000, or 0 for what a twentieth of a processor folds`},
		{"approval of nothing", `{"reason":"x"}`, &ApproveDiffRequest{}, "approve: checksum is missing"},
		{"approval of something else", `{"checksun":"x"}`, &ApproveDiffRequest{},
			`approve: unknown field "checksun"; want only checksum, reason`},
		{"reject", `{"reason":7}`, &RejectRequest{}, "reject: reason is 7; want a text"},
		{"no rate", `{}`, &SetRateRequest{}, "set-rate: records_per_second is missing"},
		{"no limit", `{"records_per_second":0}`, &SetRateRequest{}, ""},
		{"rate below 0", `{"records_per_second":-1}`, &SetRateRequest{}, "set-rate: records_per_second is -1; want whole records"},
		{"diff of nothing", `{"window":"hourly"}`, &ShowDiffRequest{}, "show-diff: window and start are needed"},
		{"page before the first", `{"window":"hourly","start":"2001-01-01T00:00:00Z","page":-1}`, &ShowDiffRequest{}, "page is -1"},
		{"eternal timeout", `{"drain":true,"timeout_seconds":99999999}`, &StopRequest{}, "timeout_seconds is 99999999"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			require.NoError(t, json.Unmarshal([]byte(tt.json), tt.into))
			err := tt.into.Validate()
			if tt.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tt.want)
		})
	}
	var rate ReplayWALInput
	require.NoError(t, json.Unmarshal([]byte(`{"pipeline":"orders","disk":"d","bytes_per_second":"20MiB"}`), &rate))
	require.Equal(t, `bytes_per_second is "20MiB"; want whole bytes, 0 (no limit) to 1099511627776`, rate.Wrong)
	require.Equal(t, time.Hour, StopRequest{Drain: true}.DrainTimeout())
	require.Equal(t, time.Minute, StopRequest{Drain: true, TimeoutSeconds: 60}.DrainTimeout())
}

// An old worker decodes state that a newer one wrote.
func TestCarriedStateDecodesLeniently(t *testing.T) {
	newer := `{"version":9,"spec":{"name":"orders"},"state":{"replicas":2,"generation":7,"watermark_hold":5,
		"receipts":[{"request_id":"a","update":"hold-watermark","generation":7,"held":{"until":1}}],"children":[{"id":"x","zone":"eu"}]}}`
	var in PipelineInput
	require.NoError(t, json.Unmarshal([]byte(newer), &in))
	require.EqualValues(t, 7, in.State.Generation)
	require.Equal(t, "a", in.State.Receipts[0].RequestID)
	for name, v := range map[string]any{"replica": &ReplicaInput{}, "close": &CloseWindowsInput{}, "window": &CloseWindowInput{},
		"recover": &RecoverInput{}, "degrade": &DegradeInput{}, "replay": &ReplayWALInput{}} {
		require.NoError(t, json.Unmarshal([]byte(`{"version":9,"pipeline":"orders","spec":{},"invented_later":{"a":[1]}}`), v), name)
	}
}

func TestBounds(t *testing.T) {
	lanes := make([]report.RecoveredLane, MaxRecoveryLanes+50)
	for i := range lanes {
		lanes[i] = report.RecoveredLane{Topic: "orders", Partition: int32(i)}
	}
	lanes[len(lanes)-1].Incident = &report.Incident{Kind: "gap", Detail: strings.Repeat("ä", MaxText), Choices: make([]report.Choice, 20)}
	kept, more := BoundLanes(lanes)
	require.Len(t, kept, MaxRecoveryLanes)
	require.Equal(t, 50, more)
	require.NotNil(t, kept[0].Incident, "a lane that waits is never left out")
	require.LessOrEqual(t, len(kept[0].Incident.Detail), MaxText)
	require.True(t, utf8.ValidString(kept[0].Incident.Detail))
	require.Len(t, kept[0].Incident.Choices, MaxChoices)
	require.Len(t, lanes[len(lanes)-1].Incident.Choices, 20, "the input is not changed")

	b := report.RecoveryBatch{Lanes: make([]report.LaneRef, MaxRecoveryLanes+3), More: 1,
		Storm: &report.Storm{Timeline: make([]report.StormEvent, 90)}}
	short := BoundBatch(b)
	require.Len(t, short.Lanes, MaxRecoveryLanes)
	require.Equal(t, 4, short.More)
	require.Len(t, short.Storm.Timeline, MaxStormEvents)
	require.Len(t, b.Storm.Timeline, 90, "the input is not changed")

	// The largest step report stays well below what Temporal takes as a payload.
	for i := range kept {
		kept[i].Token, kept[i].Steps = strings.Repeat("t", 40), make([]report.StepTime, 5)
		kept[i].Incident = &report.Incident{ID: "i", Detail: strings.Repeat("d", 300), Choices: make([]report.Choice, 3)}
	}
	require.Less(t, jsonSize(report.StepReport{Lanes: kept}), 1<<20)
}

func TestTrimReceipts(t *testing.T) {
	lanes := make([]report.LaneReceipt, 1000)
	for i := range lanes {
		lanes[i] = report.LaneReceipt{Topic: "orders", Partition: int32(i), Offset: 1 << 40, Owner: "12:" + strings.Repeat("a", 32)}
	}
	var all []Receipt
	for i := range 60 {
		all = append(all, Receipt{RequestID: strings.Repeat("r", 1+i), Lanes: lanes, Emitted: &report.Emitted{Windows: 3, Covered: lanes}})
	}
	kept := TrimReceipts(all)
	require.Len(t, kept, MaxReceipts)
	require.Equal(t, all[59].RequestID, kept[49].RequestID)
	require.Less(t, jsonSize(kept), MaxReceiptsBytes*3/2)
	require.Len(t, kept[49].Lanes, 1000, "the newest keeps its lists")
	require.Empty(t, kept[0].Lanes)
	require.Equal(t, 3, kept[0].Emitted.Windows, "totals stay")
	require.NotEmpty(t, kept[0].Note)
	require.Len(t, all[10].Lanes, 1000, "the input is not changed")
	require.Len(t, all[10].Emitted.Covered, 1000)
}

func TestRemovalsDiffer(t *testing.T) {
	const one = `{"name":"orders","source":{"topics":["orders"]},"event":{"time":"ts"},"windows":[{"name":"hourly","size":"1h"}],
		"aggregates":{"n":{"function":"count"}}}`
	in := RemoveInput{Pipeline: "orders", GraceSeconds: 600, Spec: json.RawMessage(one)}
	require.Empty(t, in.Differs(RemoveInput{Version: 1, Pipeline: "orders", Approved: true, DryRun: true, Spec: json.RawMessage(one)}),
		"600 s are the default")
	require.Equal(t, "it deletes no topics, its grace is 10m, not 1s, it was given a spec",
		in.Differs(RemoveInput{Topics: true, GraceSeconds: 1}))
	require.Equal(t, "it deletes the topics that the pipeline writes, too", RemoveInput{Topics: true}.Differs(RemoveInput{}))
	require.Equal(t, "it was given no spec", RemoveInput{}.Differs(in))
	require.Equal(t, "it was given another spec",
		in.Differs(RemoveInput{Spec: json.RawMessage(strings.Replace(one, "hourly", "daily", 1))}))
	require.Equal(t, "millrace rm orders --spec FILE", in.Command())
	require.Equal(t, "millrace rm orders --topics --grace 1d", RemoveInput{Pipeline: "orders", Topics: true, GraceSeconds: 86400}.Command())
	require.True(t, Remains{Group: "g", Topics: []TopicRemains{{Role: RoleResults}, {Role: RoleLedger, Ended: true}}}.None())
	for name, r := range map[string]Remains{
		"a lane": {Lanes: 1}, "a key": {Keys: []KeyCount{{Keys: 1}}}, "the group": {Grouped: true},
		"a topic":            {Topics: []TopicRemains{{Role: RoleLate, Delete: true}}},
		"rows of the ledger": {Topics: []TopicRemains{{Role: RoleLedger}}},
	} {
		require.False(t, r.None(), name)
	}
}

func TestOptionsFollowTheTable(t *testing.T) {
	require.EqualValues(t, 1, RunOptions("q").RetryPolicy.MaximumAttempts, "a frozen host would swallow further attempts")
	require.True(t, RunOptions("q").WaitForCancellation)
	require.True(t, ClaimOptions().DisableEagerExecution)
	require.EqualValues(t, 1, NudgeOptions("q").RetryPolicy.MaximumAttempts)
	require.Zero(t, ControlOptions().RetryPolicy.MaximumAttempts, "for ever")
	require.EqualValues(t, 3, RecoverStepOptions("q").RetryPolicy.MaximumAttempts)
	require.Contains(t, RecoverStepOptions("q").RetryPolicy.NonRetryableErrorTypes, ErrorStale)
	require.EqualValues(t, 1, WatchLevelOptions("q").RetryPolicy.MaximumAttempts)
	require.Greater(t, WatchLevelOptions("q").StartToCloseTimeout, WatchRenew)
	require.Zero(t, ReplaySegmentOptions("d").RetryPolicy.MaximumAttempts, "for ever")
	require.Equal(t, "millrace:d:d", ReplaySegmentOptions("d").TaskQueue)
	for name, o := range map[string]time.Duration{
		"step": RecoverStepOptions("q").ScheduleToStartTimeout, "decide": DecideOptions("q").ScheduleToStartTimeout,
		"watch": WatchLevelOptions("q").ScheduleToStartTimeout, "list": ListChainsOptions("d").ScheduleToStartTimeout,
	} {
		require.Equal(t, HostPatience, o, name)
	}
	require.Less(t, RecoverRunLimit+10*time.Minute, RecoverTimeout, "one that waits continues as new in time")
	require.Greater(t, BeatTimeout, 5*BeatEvery)
	require.Greater(t, WorkerStopTimeout, 25*time.Second, "above the stop of a hot path")
	require.Less(t, LeaseTTL, BeatTimeout, "a dead worker's lease has run out when its heartbeat is missed")
}
