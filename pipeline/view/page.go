package view

import (
	"encoding/binary"
	"fmt"

	"millrace/pipeline/ledger"
)

// Formats of a page. A page is this byte, then rows: flags (1 overflow, 2 deleted), key length, key,
// values length, values; lengths are unsigned varints, key and values JSON objects. In a page of format 2 flag 4 says that
// the length of the row's state and the state follow; a page without states is of format 1, which earlier versions read.
const (
	pageFormat       = 1
	pageFormatStates = 2
)

// Flags of a row in a page.
const (
	pageOverflow = 1 << iota
	pageDeleted
	pageState
)

// AppendRow appends a row to a page; dst is the page so far, empty at first.
func AppendRow(dst []byte, c ledger.Content) []byte {
	if len(dst) == 0 {
		dst = append(dst, pageFormat)
	}
	flags := byte(0)
	if c.Overflow {
		flags |= pageOverflow
	}
	if c.Deleted {
		flags |= pageDeleted
	}
	if len(c.State) > 0 {
		flags |= pageState
		dst[0] = pageFormatStates
	}
	dst = append(dst, flags)
	dst = append(binary.AppendUvarint(dst, uint64(len(c.Key))), c.Key...)
	dst = append(binary.AppendUvarint(dst, uint64(len(c.Values))), c.Values...)
	if len(c.State) > 0 {
		dst = append(binary.AppendUvarint(dst, uint64(len(c.State))), c.State...)
	}
	return dst
}

// EachRow passes the rows of a page to fn; they alias the page. Errors but those of fn wrap ErrCorrupt.
func EachRow(page []byte, fn func(ledger.Content) error) error {
	if len(page) == 0 {
		return fmt.Errorf("%w: a page is empty", ErrCorrupt)
	}
	known := byte(pageOverflow | pageDeleted)
	switch page[0] {
	case pageFormat:
	case pageFormatStates:
		known |= pageState
	default:
		return fmt.Errorf("%w: format %d, this version of millrace reads up to %d", ErrCorrupt, page[0], pageFormatStates)
	}
	for rest := page[1:]; len(rest) > 0; {
		flags := rest[0]
		c := ledger.Content{Overflow: flags&pageOverflow != 0, Deleted: flags&pageDeleted != 0}
		if flags&^known != 0 {
			return fmt.Errorf("%w: flags %d", ErrCorrupt, flags)
		}
		var ok bool
		if c.Key, rest, ok = cutField(rest[1:]); !ok {
			return fmt.Errorf("%w: key", ErrCorrupt)
		}
		if c.Values, rest, ok = cutField(rest); !ok {
			return fmt.Errorf("%w: values", ErrCorrupt)
		}
		if flags&pageState != 0 {
			if c.State, rest, ok = cutField(rest); !ok {
				return fmt.Errorf("%w: state", ErrCorrupt)
			}
		}
		if err := fn(c); err != nil {
			return err
		}
	}
	return nil
}

func cutField(b []byte) (field, rest []byte, ok bool) {
	n, w := binary.Uvarint(b)
	if w <= 0 || n > uint64(len(b)-w) {
		return nil, nil, false
	}
	return b[w : w+int(n)], b[w+int(n):], true
}
