package event

import (
	"encoding/json"
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/spec"
)

func keySpec(t testing.TB) *spec.Spec {
	return testSpec(t, func(s *spec.Spec) {
		s.Event.Key = []string{"k"}
		s.Aggregates = []spec.Aggregate{{Name: "n", Func: "count"}}
	})
}

func TestKeyJSON(t *testing.T) {
	s := keySpec(t)
	d, err := NewDecoder(s)
	require.NoError(t, err)
	for _, c := range []struct{ field, want string }{
		{`"ATL"`, `"ATL"`},
		{`"a\"\\\n\u0001é"`, `"a\"\\\n\u0001é"`},
		{`"<&>"`, `"<&>"`},
		{`17`, `17`}, {`-17`, `-17`}, {`-0`, `0`}, {`0`, `0`}, {`1e1`, `10`}, {`10.0`, `10`}, {`-0.0`, `0`}, {`1e-999`, `0`},
		{`1.0000000000000000000000001`, `1`},
		{`0.5`, `0.5`}, {`5e-1`, `0.5`}, {`1e-9`, `1e-9`}, {`1e30`, `1e+30`},
		{`9223372036854775807`, `9223372036854775807`},
		{`9223372036854775808`, `9223372036854775808`},
		{`9.3e18`, `9300000000000000000`}, {`9300000000000000000`, `9300000000000000000`},
		{`1000000000000000000000000000000`, `1000000000000000000000000000000`},
		{`true`, `true`}, {`false`, `false`},
	} {
		t.Run(c.field, func(t *testing.T) {
			var ev Event
			require.NoError(t, d.Decode([]byte(`{"at":0,"k":`+c.field+`}`), &ev))
			got, err := KeyJSON(s, ev.Key)
			require.NoError(t, err)
			require.Equal(t, `{"k":`+c.want+`}`, string(got))
			require.True(t, json.Valid(got))

			first := string(ev.Key) // the same JSON again is the same key
			require.NoError(t, d.Decode([]byte(`{"at":0,"k":`+c.want+`}`), &ev))
			require.Equal(t, first, string(ev.Key))
		})
	}
}

func TestKeyOrder(t *testing.T) {
	s := testSpec(t)
	d, err := NewDecoder(s)
	require.NoError(t, err)
	var ev Event
	require.NoError(t, d.Decode([]byte(good), &ev))
	got, err := KeyJSON(s, ev.Key)
	require.NoError(t, err)
	require.Equal(t, `{"shop.id":7,"country":"DE"}`, string(got))
}

func TestKeyJSONRefuses(t *testing.T) {
	s := keySpec(t)
	for _, key := range []string{"", "s", "s\x05abc", "x\x01a", "s\x01ab", "s\x01as\x01b", "s\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		_, err := KeyJSON(s, []byte(key))
		require.ErrorIs(t, err, ErrKey, "%q", key)
	}
}

func TestAppendFloat(t *testing.T) {
	for _, f := range []float64{0, 1, -0.25, 1e-6, 9.9e-7, 1e-9, 1.5e-10, -2e-100, 1e20, 1e21, 1.7e308, 5e-324, 1 << 53} {
		want, err := json.Marshal(f)
		require.NoError(t, err)
		require.Equal(t, string(want), string(AppendFloat(nil, f)))
	}
	require.Equal(t, "0", string(AppendFloat(nil, math.Copysign(0, -1))))
	require.Equal(t, "null", string(AppendFloat(nil, math.NaN())))
	require.Equal(t, "null", string(AppendFloat(nil, math.Inf(1))))
}
