package archive

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/parquet-go/parquet-go"

	"millrace/pipeline/ledger"
	"millrace/pipeline/window"
)

// FormatVersion is the version of the files that this version of millrace writes.
const FormatVersion = 1

// headerKey is the key of a Header in a file's metadata.
const headerKey = "millrace"

// VersionError says that a file was written by a later version of millrace.
type VersionError struct{ Found int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("archive file: version %d, this version of millrace reads up to %d; update millrace", e.Found, FormatVersion)
}

// Header is what a file says of itself: which revision of which window it holds, what the ledger row says that adds up to,
// and what the columns are. It depends on nothing that two archivings of the same revision could see differently.
type Header struct {
	Version   int      `json:"version"`
	Pipeline  string   `json:"pipeline"`
	Window    string   `json:"window"`
	Start     string   `json:"start"` // RFC 3339
	End       string   `json:"end"`
	Edition   int      `json:"edition"`
	Revision  int      `json:"revision"`
	Spec      string   `json:"spec"` // version of the spec that published the revision
	Keys      int64    `json:"keys"`
	Checksum  string   `json:"checksum"` // of the contents, as in the ledger row
	Algorithm string   `json:"checksum_algorithm"`
	KeyFields []Column `json:"key_fields"`
	Values    []Column `json:"values"`

	start, end int64 // ms
}

func headerOf(s *Schema, row *ledger.Row) *Header {
	return &Header{
		Version: FormatVersion, Pipeline: row.Pipeline, Window: row.Window,
		Start: window.FormatTime(row.Start), End: window.FormatTime(row.End), Edition: row.Edition, Revision: row.Revision,
		Spec: row.Spec, Keys: row.Keys, Checksum: row.Checksum, Algorithm: row.Algorithm, KeyFields: s.fields, Values: s.values,
		start: row.Start, end: row.End,
	}
}

// readHeader reads a file's header and derives the schema from it.
func readHeader(f *parquet.File) (*Header, *Schema, error) {
	text, found := f.Lookup(headerKey)
	if !found {
		return nil, nil, fmt.Errorf("no metadata under %q: millrace did not write this file", headerKey)
	}
	var h Header
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return nil, nil, fmt.Errorf("metadata: %w", err)
	}
	if h.Version > FormatVersion {
		return nil, nil, &VersionError{Found: h.Version}
	}
	var err error
	if h.start, err = window.ParseTime(h.Start); err != nil {
		return nil, nil, fmt.Errorf("metadata: start: %w", err)
	}
	if h.end, err = window.ParseTime(h.End); err != nil {
		return nil, nil, fmt.Errorf("metadata: end: %w", err)
	}
	s, err := newSchema(h.KeyFields, h.Values)
	if err != nil {
		return nil, nil, err
	}
	if !s.matches(f.Schema()) {
		return nil, nil, fmt.Errorf("columns are not those that the metadata lists")
	}
	return &h, s, nil
}

// isOf reports whether the file holds what the ledger row says.
func (h *Header) isOf(row *ledger.Row) bool {
	return h.Pipeline == row.Pipeline && h.Window == row.Window && h.start == row.Start && h.end == row.End &&
		h.Edition == row.Edition && h.Revision == row.Revision
}

const fileSuffix = ".parquet"

// FileName is where the file of a ledger row's revision stands below the archive's directory. It never changes: archived
// files are found by it.
func FileName(row *ledger.Row) string {
	start := strings.ReplaceAll(window.FormatTime(row.Start), ":", "-")
	edition := ""
	if row.Edition > ledger.Edition {
		edition = ".e" + strconv.Itoa(row.Edition) // its revisions begin at 1 again
	}
	return row.Pipeline + "/" + row.Window + "/" + start + edition + ".r" + strconv.Itoa(row.Revision) + fileSuffix
}
