package ledger

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRowFormat(t *testing.T) {
	row := ResultRow{Pipeline: "flights", Window: "hourly", Start: 978307200000, End: 978310800000, Key: json.RawMessage(`{"origin":"ATL"}`),
		Revision: 1, Values: json.RawMessage(`{"flights":12,"delay_sum":-3,"delay_avg":-0.25,"delay_min":-9,"delay_max":19,"last_to":"SAV"}`),
	}
	want := `{"pipeline":"flights","window":"hourly","start":"2001-01-01T00:00:00Z","end":"2001-01-01T01:00:00Z","key":{"origin":"ATL"},` +
		`"revision":1,"values":{"flights":12,"delay_sum":-3,"delay_avg":-0.25,"delay_min":-9,"delay_max":19,"last_to":"SAV"}}`
	for _, c := range []struct {
		name string
		row  ResultRow
		want string
	}{
		{"plain", row, want},
		{"overflow", func() ResultRow { r := row; r.Overflow = true; return r }(), strings.TrimSuffix(want, "}") + `,"overflow":true}`},
		{"deleted", func() ResultRow { r := row; r.Deleted = true; return r }(), strings.TrimSuffix(want, "}") + `,"deleted":true}`},
		{"milliseconds, before 1970", func() ResultRow { r := row; r.Start, r.End = -1500, -500; return r }(),
			strings.NewReplacer("2001-01-01T00:00:00Z", "1969-12-31T23:59:58.5Z", "2001-01-01T01:00:00Z", "1969-12-31T23:59:59.5Z").Replace(want)},
	} {
		t.Run(c.name, func(t *testing.T) {
			text, err := json.Marshal(c.row)
			require.NoError(t, err)
			require.Equal(t, c.want, string(text))
			var back ResultRow
			require.NoError(t, json.Unmarshal(text, &back))
			require.Equal(t, c.row, back)
		})
	}
}

func TestLedgerRowRefusesWhatItIsNot(t *testing.T) {
	for name, text := range map[string]string{
		"no object":   `[]`,
		"no revision": `{"start":"2001-01-01T00:00:00Z","end":"2001-01-01T00:00:00Z","closed_at":"2001-01-01T00:00:00Z"}`,
		"bad time":    `{"revision":1,"start":"yesterday","end":"2001-01-01T00:00:00Z","closed_at":"2001-01-01T00:00:00Z"}`,
	} {
		t.Run(name, func(t *testing.T) {
			var row Row
			require.ErrorContains(t, json.Unmarshal([]byte(text), &row), "")
		})
	}
}

// TestSlotsAreForEver: another assignment would look for the ledger of old windows in the wrong partition.
func TestSlotsAreForEver(t *testing.T) {
	for start, want := range map[int64]int{0: 3, 978307200000: 1, -3600000: 2} {
		require.Equal(t, want, WindowID{"hourly", start}.Slot(8), "%d", start)
	}
	require.Equal(t, `{"window":"hourly","start":"2001-01-01T00:00:00Z"}`, string(WindowID{"hourly", 978307200000}.Key()))
	require.Equal(t, "millrace.flights.close.3", TransactionalID("flights", 3))
	require.Equal(t, "flights.ledger", Topic("flights"))
}

func TestChecksumDependsOnContentAlone(t *testing.T) {
	rows := make([]ResultRow, 20)
	for i := range rows {
		rows[i] = ResultRow{Key: json.RawMessage(fmt.Sprint(i)), Values: json.RawMessage(`{"n":1}`), Revision: i, Start: int64(i)}
	}
	sum := func(rows ...ResultRow) string {
		var c Checksum
		for _, r := range rows {
			c.Add(r)
		}
		return c.String()
	}
	reversed := make([]ResultRow, len(rows))
	for i, r := range rows {
		r.Revision, r.Window = 99, "other"
		reversed[len(rows)-1-i] = r
	}
	require.Equal(t, sum(rows...), sum(reversed...))
	require.Equal(t, strings.Repeat("0", 32), sum())
	seen := map[string]bool{sum(rows...): true}
	for i := range rows {
		for _, change := range []func(*ResultRow){
			func(r *ResultRow) { r.Values = json.RawMessage(`{"n":2}`) },
			func(r *ResultRow) { r.Key = json.RawMessage(`x`) },
			func(r *ResultRow) { r.Overflow = true },
			func(r *ResultRow) { r.Deleted = true },
		} {
			changed := append([]ResultRow(nil), rows...)
			change(&changed[i])
			s := sum(changed...)
			require.False(t, seen[s])
			seen[s] = true
		}
	}
	require.NotEqual(t, sum(rows...), sum(append(rows, rows[0])...), "a row that stands twice")
	require.NotEqual(t, sum(ResultRow{Key: json.RawMessage("ab"), Values: json.RawMessage("c")}), sum(ResultRow{Key: json.RawMessage("a"), Values: json.RawMessage("bc")}))
}

func FuzzLedgerRow(f *testing.F) {
	text, err := json.Marshal(Row{Version: RowVersion, Pipeline: "p", Window: "w", Revision: 1, Lanes: []Cover{{Topic: "t", Offset: 3}}})
	require.NoError(f, err)
	f.Add(text)
	f.Add([]byte(`{"revision":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var row Row
		if json.Unmarshal(text, &row) != nil {
			return
		}
		out, err := json.Marshal(row)
		require.NoError(t, err)
		var back Row
		require.NoError(t, json.Unmarshal(out, &back))
		require.Equal(t, row, back)
	})
}
