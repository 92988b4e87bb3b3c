package agg

import (
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/event"
)

// format1 is entries of allSpec as a release wrote them that knew format 1 only, and what it published for them. They
// stand in Redis and in journals.
var format1 = []struct {
	name, entry, values string
	overflow            bool
}{
	{"decimals", "01b6020306c0a48104bce003000600c0a48104bce0030100c0f0a0adaff8a3ae290104c0f0acade883eea8ec011a80a2fea407ac02c0f0acade883eea8ec011a80a2fea407ae02c0f0acade883eea8ec01",
		`{"n":3,"sum_i":3,"sum_f":74,"avg_i":1,"avg_f":24.666666666666668,"min_i":0,"min_f":24.66,"max_i":2,"max_f":24.67,"first":24.67,"last":24.67}`, false},
	{"compensation", "01b602040c00caa2edf0d0d89fb29a01000c0000caa2edf0d0d89fb29a010100d4e5a6eada84e5e17d0106d4e4a6eada84e5e17d1a80a2fea407ac02d4e4a6eada84e5e17d1a80a2fea407af02d4e5a6eada84e5e17d",
		`{"n":4,"sum_i":6,"sum_f":1e+50,"avg_i":1.5,"avg_f":2.5e+49,"min_i":0,"min_f":-1e+100,"max_i":3,"max_f":1e+100,"first":1e+100,"last":-1e+100}`, false},
	{"overflow", "01b6020306ffe00300000600ffe003000100bfe1030104ffdeffffffffffffff011a80a2fea407ac02ffdeffffffffffffff011a80a2fea407ae02bfe103",
		`{"n":3,"sum_i":3,"sum_f":null,"avg_i":1,"avg_f":null,"min_i":0,"min_f":-1,"max_i":2,"max_f":1.7976931348623157e+308,"first":1.7976931348623157e+308,"last":-1}`, true},
	{"a null", "01b6020306c04800000601c048000100c0450104c0661980a2fea407ac02111980a2fea407ae0226",
		`{"n":3,"sum_i":3,"sum_f":10,"avg_i":1,"avg_f":5,"min_i":0,"min_f":-9,"max_i":2,"max_f":19,"first":-9,"last":19}`, false},
	{"subnormal", "01b6020202bff3e6cc99b3e6cc9a01808080808080808001000200bff3e6cc99b3e6cc9a018080808080808080010100bff3e6cc99b3e6cc9a0101028080808080808080011a80a2fea407ac028080808080808080011a80a2fea407ad02bff3e6cc99b3e6cc9a01",
		`{"n":2,"sum_i":1,"sum_f":-0.1,"avg_i":0.5,"avg_f":-0.05,"min_i":0,"min_f":-0.1,"max_i":1,"max_f":5e-324,"first":5e-324,"last":-0.1}`, false},
	{"no value", "01b6020100000000000100000100fff0838080808080010100fff0838080808080010000",
		`{"n":1,"sum_i":0,"sum_f":0,"avg_i":0,"avg_f":null,"min_i":0,"min_f":null,"max_i":0,"max_f":null,"first":null,"last":null}`, false},
}

func TestEntriesOfFormat1AreRead(t *testing.T) {
	for _, c := range format1 {
		t.Run(c.name, func(t *testing.T) {
			entry, err := hex.DecodeString(c.entry)
			require.NoError(t, err)
			version, stamp, _, err := EntryHeader(entry)
			require.NoError(t, err)
			require.EqualValues(t, 1, version)
			require.EqualValues(t, 310, stamp)

			loaded, merged := newTable(t, allSpec()), newTable(t, allSpec())
			require.NoError(t, loaded.LoadEntry([]byte("k"), entry))
			require.NoError(t, merged.MergeEntry([]byte("k"), entry, 3))
			rewritten := newTable(t, allSpec()) // in format 2
			require.NoError(t, rewritten.LoadEntry([]byte("k"), loaded.AppendEntry(nil, 0, 0)))
			for _, table := range []*Table{loaded, merged, rewritten} {
				require.Equal(t, c.values, string(table.AppendValues(nil, 0)))
				require.Equal(t, c.overflow, table.Overflow(0))
			}
			for n := range entry {
				require.ErrorIs(t, loaded.LoadEntry([]byte("k"), entry[:n]), ErrEntryCorrupt, "cut at %d", n)
			}
		})
	}
}

// A lane that has committed goes on in the new format while the others' entries are still in the old one.
func TestFormatsMerge(t *testing.T) {
	old, err := hex.DecodeString(format1[1].entry) // 1e50 and the 1 that rounding had taken from it
	require.NoError(t, err)
	for _, oldFirst := range []bool{true, false} {
		lane := newTable(t, allSpec())
		if oldFirst {
			require.NoError(t, lane.LoadEntry([]byte("k"), old))
		}
		ev := event.Event{Values: []event.Value{integer(4), float(-1e50), {}}}
		lane.Add(lane.Row([]byte("k")), &ev, 400)
		merged := newTable(t, allSpec())
		require.NoError(t, merged.MergeEntry([]byte("k"), lane.AppendEntry(nil, 0, 401), 0))
		if !oldFirst {
			require.NoError(t, merged.MergeEntry([]byte("k"), old, 1))
		}
		require.Contains(t, string(merged.AppendValues(nil, 0)), `"sum_f":0,"avg_i":2,"avg_f":0,"min_i":0,"min_f":-1e+100,`)
	}
	gone, err := hex.DecodeString(format1[2].entry)
	require.NoError(t, err)
	merged := newTable(t, allSpec())
	require.NoError(t, merged.MergeEntry([]byte("k"), old, 0))
	require.NoError(t, merged.MergeEntry([]byte("k"), gone, 1))
	require.Contains(t, string(merged.AppendValues(nil, 0)), `"sum_f":null,"avg_i":1.2857142857142858,"avg_f":null,`)
	require.True(t, merged.Overflow(0))
}
