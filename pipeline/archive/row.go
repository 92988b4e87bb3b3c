package archive

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go"

	"millrace/pipeline/ledger"
)

// encoder turns contents of one window into rows.
type encoder struct {
	schema   *Schema
	window   *ledger.Row
	rendered []byte
}

// append appends the values of one row. They alias the content.
func (e *encoder) append(row parquet.Row, c ledger.Content) (parquet.Row, error) {
	s := e.schema
	if c.Deleted {
		return row, fmt.Errorf("key %.200q is deleted; an archive holds what the window has", c.Key)
	}
	row = append(row,
		parquet.ByteArrayValue([]byte(e.window.Window)).Level(0, 0, atWindow),
		parquet.Int64Value(e.window.Start).Level(0, 0, atStart),
		parquet.Int64Value(e.window.End).Level(0, 0, atEnd),
		parquet.Int32Value(int32(e.window.Revision)).Level(0, 0, atRevision),
		parquet.ByteArrayValue(c.Key).Level(0, 0, atKey),
	)
	err := s.keyMembers.scan(c.Key, func(i int, raw []byte) error {
		text := raw // a number, true or false
		if raw[0] == '"' {
			var err error
			if text, err = textOf(raw); err != nil {
				return err
			}
		}
		row = append(row, parquet.ByteArrayValue(text).Level(0, 0, atFields+i))
		return nil
	})
	if err != nil {
		return row, fmt.Errorf("key: %w", err)
	}
	at := s.atValues()
	err = s.valueMembers.scan(c.Values, func(i int, raw []byte) error {
		if string(raw) == "null" {
			row = append(row, parquet.NullValue().Level(0, 0, at+i))
			return nil
		}
		v, err := s.kinds[i].parse(raw)
		row = append(row, v.Level(0, 1, at+i))
		return err
	})
	if err != nil {
		return row, fmt.Errorf("values: %w", err)
	}
	row = append(row, parquet.BooleanValue(c.Overflow).Level(0, 0, s.atOverflow()))
	e.rendered = s.appendValues(e.rendered[:0], row[at:])
	changed := !bytes.Equal(e.rendered, c.Values)
	switch {
	case changed && !s.exact:
		return row, fmt.Errorf("values %.200q would be read back as %.200q", c.Values, e.rendered)
	case changed:
		row = append(row, parquet.ByteArrayValue(c.Values).Level(0, 1, s.atOverflow()+1))
	case s.exact:
		row = append(row, parquet.NullValue().Level(0, 0, s.atOverflow()+1))
	}
	return row, nil
}

// appendValues appends the JSON object of the values that a row has from its first value on.
func (s *Schema) appendValues(dst []byte, values []parquet.Value) []byte {
	for i, member := range s.valueMembers {
		if dst = append(dst, member...); values[i].IsNull() {
			dst = append(dst, "null"...)
		} else {
			dst = s.kinds[i].render(dst, values[i])
		}
	}
	return append(dst, '}')
}

// errRow means that a row is none of the schema's, or of another window than its file.
var errRow = errors.New("row does not fit its file")

// content is the inverse of encoder.append. It renders the values object into dst, which the content then aliases,
// as it does the row.
func (s *Schema) content(dst []byte, row parquet.Row, h *Header) (c ledger.Content, buf []byte, err error) {
	if len(row) != s.columns() {
		return c, dst, fmt.Errorf("%w: %d values, want %d", errRow, len(row), s.columns())
	}
	if string(row[atWindow].ByteArray()) != h.Window || row[atStart].Int64() != h.start || row[atEnd].Int64() != h.end ||
		int(row[atRevision].Int32()) != h.Revision {
		return c, dst, fmt.Errorf("%w: another window or revision", errRow)
	}
	at := s.atOverflow()
	c.Key, c.Overflow = row[atKey].ByteArray(), row[at].Boolean()
	if s.exact && !row[at+1].IsNull() {
		c.Values = row[at+1].ByteArray()
		return c, dst, nil
	}
	dst = s.appendValues(dst[:0], row[s.atValues():at])
	c.Values = dst
	return c, dst, nil
}
