package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/spec"
	"millrace/pipeline/wal"
)

func TestEveryFunctionHasAKind(t *testing.T) {
	for _, f := range spec.Functions() {
		require.Contains(t, published, f.Name)
		for _, typ := range append(f.Types, "") {
			require.Contains(t, kinds, published[f.Name](typ).name)
		}
	}
	require.Len(t, published, len(spec.Functions()))
}

func TestColumns(t *testing.T) {
	s := schemaOf(t, parseSpec(t, everything))
	var lines []string
	for _, f := range s.parquet.Fields() {
		lines = append(lines, fmt.Sprintf("%s %s optional=%t", f.Name(), f.Type(), f.Optional()))
	}
	require.Equal(t, []string{
		"window STRING optional=false",
		"start TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS) optional=false",
		"end TIMESTAMP(isAdjustedToUTC=true,unit=MILLIS) optional=false",
		"revision INT32 optional=false",
		"key STRING optional=false",
		"origin STRING optional=false",
		"flight.number STRING optional=false",
		"key_Start STRING optional=false",
		"events INT64 optional=true",
		"sum_i INT64 optional=true",
		"sum_f STRING optional=true",
		"avg_i DOUBLE optional=true",
		"avg_f DOUBLE optional=true",
		"min_i INT64 optional=true",
		"min_f STRING optional=true",
		"max_i INT64 optional=true",
		"max_f STRING optional=true",
		"first_any STRING optional=true",
		"first_i STRING optional=true",
		"first_f STRING optional=true",
		"first_s STRING optional=true",
		"first_b BOOLEAN optional=true",
		"last_any STRING optional=true",
		"last_i STRING optional=true",
		"last_f STRING optional=true",
		"last_s STRING optional=true",
		"value_Overflow BOOLEAN optional=true",
		"overflow BOOLEAN optional=false",
		"values_json STRING optional=true",
	}, lines)
}

func TestContentsComeBackAsTheyWere(t *testing.T) {
	s := parseSpec(t, everything)
	for name, contents := range map[string][]ledger.Content{
		"empty window": nil, "hard values": hardContents(s), "one row": hardContents(s)[:1],
	} {
		t.Run(name, func(t *testing.T) {
			d, file, row := written(t, schemaOf(t, s), contents)
			require.Equal(t, "flights/hourly/2001-01-01T01-00-00Z.r2.parquet", file.Name)
			got := readAll(t, d, file.Name)
			require.Len(t, got, len(contents))
			for i, c := range contents {
				require.Equal(t, string(c.Key), string(got[i].Key))
				require.Equal(t, string(c.Values), string(got[i].Values))
				require.Equal(t, c.Overflow, got[i].Overflow)
			}
			require.NoError(t, d.Verify(t.Context(), file, row))
			info, err := os.Stat(d.pathOf(file.Name))
			require.NoError(t, err)
			require.Equal(t, info.Size(), file.Bytes)
		})
	}
}

func TestReadableColumns(t *testing.T) {
	s := parseSpec(t, everything)
	d, file, _ := written(t, schemaOf(t, s), hardContents(s))
	f, err := os.Open(d.pathOf(file.Name))
	require.NoError(t, err)
	defer f.Close()
	size, err := f.Seek(0, 2)
	require.NoError(t, err)
	p, err := parquet.OpenFile(f, size)
	require.NoError(t, err)
	rows := make([]parquet.Row, 6)
	n, _ := p.RowGroups()[0].Rows().ReadRows(rows)
	require.Equal(t, 6, n)
	at := map[string]int{}
	for i, field := range p.Schema().Fields() {
		at[field.Name()] = i
	}
	text := func(row int, column string) string { return rows[row][at[column]].String() }
	require.Equal(t, "ATL", text(0, "origin"))
	require.Equal(t, "10", text(0, "flight.number"))
	require.Equal(t, "10", text(1, "flight.number"))
	require.Equal(t, "a\"b\\c\x01\n\uFFFDé😀, }", text(2, "origin"))
	require.Equal(t, int64(-9223372036854775808), rows[3][at["sum_i"]].Int64())
	require.Equal(t, "9007199254740993", text(3, "sum_f"))
	require.InDelta(t, 0.1, rows[3][at["avg_i"]].Double(), 0)
	require.Equal(t, `a,"b}`, text(3, "first_s"))
	require.Equal(t, `"a,b}\"c"`, text(3, "first_any"))
	require.True(t, rows[3][at["values_json"]].IsNull())
	require.False(t, rows[4][at["values_json"]].IsNull(), "half a surrogate pair is not UTF-8")
	require.True(t, rows[1][at["overflow"]].Boolean())
	require.True(t, rows[1][at["sum_i"]].IsNull())
}

func TestEqualContentsMakeEqualBytes(t *testing.T) {
	s := parseSpec(t, everything)
	contents := hardContents(s)
	d, file, row := written(t, schemaOf(t, s), contents)
	other, again, _ := written(t, schemaOf(t, s), contents)
	require.Equal(t, file, again)
	same, err := os.ReadFile(d.pathOf(file.Name))
	require.NoError(t, err)
	bytes, err := os.ReadFile(other.pathOf(file.Name))
	require.NoError(t, err)
	require.Equal(t, same, bytes)

	repeated, err := d.Write(t.Context(), schemaOf(t, s), row, passing(contents))
	require.NoError(t, err)
	require.Equal(t, file, repeated)
	requireOnly(t, d, file.Name)

	require.NoError(t, os.WriteFile(d.pathOf(file.Name), []byte("other"), 0o600))
	_, err = d.Write(t.Context(), schemaOf(t, s), row, passing(contents))
	var otherFile *OtherFileError
	require.ErrorAs(t, err, &otherFile)
	require.Equal(t, file.SHA256, otherFile.Want)
	require.ErrorContains(t, err, otherFile.Have)
	require.ErrorContains(t, err, otherFile.Want)
	requireOnly(t, d, file.Name)
}

// requireOnly fails when the archive has other files than those named.
func requireOnly(t testing.TB, d *Dir, names ...string) {
	var all []string
	require.NoError(t, filepath.WalkDir(d.path, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, _ := filepath.Rel(d.path, path)
			all = append(all, filepath.ToSlash(name))
		}
		return err
	}))
	require.ElementsMatch(t, names, all)
}

func TestWhatWouldChangeIsRefused(t *testing.T) {
	s := parseSpec(t, strings.ReplaceAll(everything, "type: string", "type: bool"))
	good := func(values ...string) []byte {
		all := strings.Fields("1" + strings.Repeat(" null", len(s.Aggregates)-1))
		copy(all, values)
		return object(s, all...)
	}
	key := []byte(`{"origin":"A","flight.number":1,"Start":2}`)
	for name, tc := range map[string]struct {
		content ledger.Content
		want    string
	}{
		"integer beyond int64":   {ledger.Content{Key: key, Values: good("1", "9223372036854775808")}, "out of range"},
		"integer as float":       {ledger.Content{Key: key, Values: good("1.0")}, "invalid syntax"},
		"integer with a plus":    {ledger.Content{Key: key, Values: good("+1")}, "would be read back"},
		"float too fine":         {ledger.Content{Key: key, Values: good("1", "1", "1", "0.1000000000000000055")}, "would be read back"},
		"number as text":         {ledger.Content{Key: key, Values: good("1", "1", `"1"`)}, "is not a number"},
		"deleted":                {ledger.Content{Key: key, Values: good(), Deleted: true}, "is deleted"},
		"member of another spec": {ledger.Content{Key: key, Values: []byte(`{"other":1}`)}, `want member 0 to begin with {"events":`},
		"too many members":       {ledger.Content{Key: append(key[:len(key)-1:len(key)-1], `,"x":1}`...), Values: good()}, "members and no more"},
		"cut short":              {ledger.Content{Key: []byte(`{"origin":"A`), Values: good()}, "has no value"},
		"key of another spec":    {ledger.Content{Key: []byte(`{"origin":"A"}`), Values: good()}, "want member 1"},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDir(wal.OS, t.TempDir())
			contents := []ledger.Content{tc.content}
			_, err := d.Write(t.Context(), schemaOf(t, s), rowOf(contents), passing(contents))
			require.ErrorContains(t, err, tc.want)
			requireOnly(t, d)
		})
	}
}

// TestContentsMustBeThoseOfTheRow archives contents that the ledger row does not vouch for.
func TestContentsMustBeThoseOfTheRow(t *testing.T) {
	s := parseSpec(t, everything)
	contents := hardContents(s)
	d := NewDir(wal.OS, t.TempDir())
	_, err := d.Write(t.Context(), schemaOf(t, s), rowOf(contents), passing(contents[1:]))
	require.ErrorIs(t, err, ErrDamaged)
	require.ErrorContains(t, err, "5 keys")
	gone := errors.New("contents are gone")
	_, err = d.Write(t.Context(), schemaOf(t, s), rowOf(contents), func(yield func(ledger.Content) error) error {
		return errors.Join(yield(contents[0]), gone)
	})
	require.ErrorIs(t, err, gone)
	requireOnly(t, d)
}

// TestManyRows streams 30,000 long rows in several row groups within a fraction of the memory that they would take.
func TestManyRows(t *testing.T) {
	s := parseSpec(t, everything)
	schema, template := schemaOf(t, s), hardContents(s)[3]
	const rows = 30_000
	text := strings.Repeat("x", 2000)
	all := func(yield func(ledger.Content) error) error {
		for i := range rows {
			c := ledger.Content{
				Key:    fmt.Appendf(nil, `{"origin":"%s%06d","flight.number":%d,"Start":"é"}`, text, i, i),
				Values: template.Values, Overflow: i%7 == 0,
			}
			if err := yield(c); err != nil {
				return err
			}
		}
		return nil
	}
	row := rowOf(nil)
	var sum ledger.Checksum
	size := 0
	require.NoError(t, all(func(c ledger.Content) error {
		sum.AddContent(c)
		size += len(c.Key) + len(c.Values)
		return nil
	}))
	row.Keys, row.Checksum = sum.Rows(), sum.String()
	require.Greater(t, size, 64<<20)

	d := NewDir(wal.OS, t.TempDir())
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse
	}
	runtime.GC()
	before, most, n := heap(), uint64(0), 0
	file, err := d.Write(t.Context(), schema, row, func(yield func(ledger.Content) error) error {
		return all(func(c ledger.Content) error {
			if n++; n%3_000 == 2_999 {
				runtime.GC()
				most = max(most, heap())
			}
			return yield(c)
		})
	})
	require.NoError(t, err)
	t.Logf("heap grew by %d of %d", most-before, size)
	require.Less(t, most-before, uint64(56<<20), "of %d bytes", size)

	n = 0
	_, err = d.Read(t.Context(), file.Name, func(c ledger.Content) error {
		if want := fmt.Sprintf(`{"origin":"%s%06d","flight.number":%d,"Start":"é"}`, text, n, n); string(c.Key) != want {
			return fmt.Errorf("row %d: %s", n, c.Key)
		}
		if string(c.Values) != string(template.Values) || c.Overflow != (n%7 == 0) {
			return fmt.Errorf("row %d: %s", n, c.Values)
		}
		n++
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, rows, n)
}

func TestFileName(t *testing.T) {
	row := rowOf(nil)
	row.Start += 250
	require.Equal(t, "flights/hourly/2001-01-01T01-00-00.25Z.r2.parquet", FileName(row))
	row.Edition = 3
	require.Equal(t, "flights/hourly/2001-01-01T01-00-00.25Z.e3.r2.parquet", FileName(row), "revisions begin anew with an edition")
}

func TestLaterVersion(t *testing.T) {
	d := NewDir(wal.OS, t.TempDir())
	header, err := json.Marshal(map[string]any{"version": FormatVersion + 1})
	require.NoError(t, err)
	f, err := os.Create(d.pathOf("later.parquet"))
	require.NoError(t, err)
	w := parquet.NewGenericWriter[any](f, parquet.NewSchema("later", parquet.Group{"a": parquet.String()}), parquet.KeyValueMetadata(headerKey, string(header)))
	require.NoError(t, w.Close())
	require.NoError(t, f.Close())
	_, err = d.Read(t.Context(), "later.parquet", nil)
	var later *VersionError
	require.ErrorAs(t, err, &later)
}

func TestProveAFileAlone(t *testing.T) {
	s := parseSpec(t, everything)
	d, file, row := written(t, schemaOf(t, s), hardContents(s))
	require.NoError(t, d.Prove(t.Context(), file.Name))
	names, err := d.Files("flights")
	require.NoError(t, err)
	require.Equal(t, []string{file.Name}, names)
	names, err = d.Files("other")
	require.NoError(t, err)
	require.Empty(t, names)

	// A file whose metadata vouches for other contents than it has.
	row.Keys++
	f, err := os.Create(d.pathOf(file.Name))
	require.NoError(t, err)
	require.NoError(t, encode(t.Context(), f, schemaOf(t, s), row, passing(hardContents(s))))
	require.NoError(t, f.Close())
	require.ErrorIs(t, d.Prove(t.Context(), file.Name), ErrDamaged)
	require.NoError(t, os.Truncate(d.pathOf(file.Name), 100))
	require.ErrorIs(t, d.Prove(t.Context(), file.Name), ErrDamaged)
	require.NoError(t, os.Remove(d.pathOf(file.Name)))
	require.ErrorIs(t, d.Prove(t.Context(), file.Name), os.ErrNotExist)
}
