package contract

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFromIsTheSameAsTextAndAsJSON(t *testing.T) {
	offsets := []LaneStart{{Topic: "a/b", Partition: 0, Offset: 3}, {Topic: "a/b", Partition: 10, Offset: 7}, {Topic: "c", Partition: 2}}
	for _, c := range []struct {
		text, json string
		want       From
	}{
		{"earliest", `"earliest"`, From{Place: FromEarliest}},
		{" latest ", `"latest"`, From{Place: FromLatest}},
		{"2001-01-31T01:00:00+01:00", `"2001-01-31T00:00:00Z"`, From{Time: time.Date(2001, 1, 31, 0, 0, 0, 0, time.UTC)}},
		{"a/b/10=7, c/2=0,a/b/0=3", `{"a/b":{"0":3,"10":7},"c":{"2":0}}`, From{Offsets: offsets}},
		{`{"c":{"2":0},"a/b":{"10":7,"0":3}}`, `{"a/b":{"0":3,"10":7},"c":{"2":0}}`, From{Offsets: offsets}},
	} {
		got, err := ParseFrom(c.text)
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, *got)
		text, err := json.Marshal(got)
		require.NoError(t, err)
		require.JSONEq(t, c.json, string(text))
		var back From
		require.NoError(t, json.Unmarshal(text, &back))
		require.Equal(t, c.want, back)
		again, err := ParseFrom(got.String())
		require.NoError(t, err)
		require.Equal(t, c.want, *again)
	}
	for _, wrong := range []string{"", "now", "a/b", "a=3", "a/x=3", "a/0=-1", "a/-1=3", "{}", `{"a":{}}`, `{"a":3}`, "a/0=1,a/0=2"} {
		_, err := ParseFrom(wrong)
		require.Error(t, err, wrong)
	}
}

func TestPipelineInputSaysWhereToBegin(t *testing.T) {
	var in PipelineInput
	require.NoError(t, json.Unmarshal([]byte(`{"spec":{},"from":{"orders":{"0":7}},"discard_state":true}`), &in))
	require.NoError(t, in.Validate())
	require.Equal(t, &Begin{ID: "run", From: From{Offsets: []LaneStart{{Topic: "orders", Offset: 7}}}, Discard: true}, in.Begin("run"))
	require.Nil(t, PipelineInput{}.Begin("run"))
}
