package contract

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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
	for _, bad := range []string{`[]`, `"orders"`, `{"spec":`} {
		require.Error(t, json.Unmarshal([]byte(bad), new(PipelineInput)), bad)
	}
}

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
		{"negative timeout", `{"drain":true,"timeout_seconds":-1}`, &StopRequest{}, "timeout_seconds is -1"},
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
	require.Error(t, json.Unmarshal([]byte(`{"drain":"yes"}`), new(StopRequest)), "a wrong type does not decode")
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
	for name, v := range map[string]any{"replica": &ReplicaInput{}, "close": &CloseWindowsInput{}, "window": &CloseWindowInput{}} {
		require.NoError(t, json.Unmarshal([]byte(`{"version":9,"pipeline":"orders","spec":{},"invented_later":{"a":[1]}}`), v), name)
	}
}

func TestTrimReceipts(t *testing.T) {
	lanes := make([]LaneReceipt, 1000)
	for i := range lanes {
		lanes[i] = LaneReceipt{Topic: "orders", Partition: int32(i), Offset: 1 << 40, Owner: "12:" + strings.Repeat("a", 32)}
	}
	var all []Receipt
	for i := range 60 {
		all = append(all, Receipt{RequestID: strings.Repeat("r", 1+i), Lanes: lanes, Emitted: &Emitted{Windows: 3, Covered: lanes}})
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

func TestOptionsFollowTheTable(t *testing.T) {
	require.EqualValues(t, 1, RunOptions("q").RetryPolicy.MaximumAttempts, "a frozen host would swallow further attempts")
	require.True(t, RunOptions("q").WaitForCancellation)
	require.True(t, ClaimOptions().DisableEagerExecution)
	require.EqualValues(t, 1, NudgeOptions("q").RetryPolicy.MaximumAttempts)
	require.Zero(t, ControlOptions().RetryPolicy.MaximumAttempts, "for ever")
	require.Greater(t, BeatTimeout, 5*BeatEvery)
	require.Greater(t, WorkerStopTimeout, 25*time.Second, "above the stop of a hot path")
	require.Less(t, LeaseTTL, BeatTimeout, "a dead worker's lease has run out when its heartbeat is missed")
}
