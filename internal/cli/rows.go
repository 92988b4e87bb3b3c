package cli

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"millrace/pipeline/ledger"
)

// writeRows writes one JSON object a line.
func writeRows(w io.Writer, rows []ledger.ResultRow) error {
	out := bufio.NewWriterSize(w, 1<<16)
	for _, r := range rows {
		line, err := r.MarshalJSON()
		if err != nil {
			return err
		}
		out.Write(line)
		out.WriteByte('\n')
	}
	return out.Flush()
}

// saveRows writes the file beside its place and moves it there, so that a reader sees all of it or nothing.
func saveRows(name string, rows []ledger.ResultRow) (err error) {
	if name == "-" {
		return writeRows(os.Stdout, rows)
	}
	f, err := createResults(name)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := writeRows(f, rows); err != nil {
		f.Close()
		return fmt.Errorf("write results: %w", err)
	}
	if err := f.Chmod(0o644); err != nil {
		f.Close()
		return fmt.Errorf("write results: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// createResults creates the file that takes the name of the results once they are complete.
func createResults(name string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(name), ".results-*")
	if err != nil {
		return nil, fmt.Errorf("write results: %w", err)
	}
	return f, nil
}

// cells renders a row's key and values for a table: field names once, in the header.
func cells(object json.RawMessage) (names, values []string) {
	dec := json.NewDecoder(strings.NewReader(string(object)))
	dec.UseNumber()
	if _, err := dec.Token(); err != nil {
		return nil, nil
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return names, values
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return names, values
		}
		names = append(names, fmt.Sprint(name))
		if value == nil {
			value = "null"
		}
		values = append(values, fmt.Sprint(value))
	}
	return names, values
}

// sortRows sorts by window, start and key.
func sortRows(rows []ledger.ResultRow) {
	slices.SortFunc(rows, func(a, b ledger.ResultRow) int {
		return cmp.Or(strings.Compare(a.Window, b.Window), cmp.Compare(a.Start, b.Start), bytes.Compare(a.Key, b.Key))
	})
}
