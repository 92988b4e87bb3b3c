package publish

import (
	"encoding/binary"
	"fmt"

	"millrace/pipeline/ledger"
)

// pageFormat is the version of a page of prepared content. A page is this byte, then rows: flags (1 overflow, 2
// deleted), key length, key, values length, values; lengths are unsigned varints, key and values JSON objects.
const pageFormat = 1

// pageSize is the size in bytes after which a page is closed; a page exceeds it by at most one row.
const pageSize = 256 << 10

func appendRow(dst []byte, c ledger.Content) []byte {
	if len(dst) == 0 {
		dst = append(dst, pageFormat)
	}
	flags := byte(0)
	if c.Overflow {
		flags |= 1
	}
	if c.Deleted {
		flags |= 2
	}
	dst = append(dst, flags)
	dst = append(binary.AppendUvarint(dst, uint64(len(c.Key))), c.Key...)
	return append(binary.AppendUvarint(dst, uint64(len(c.Values))), c.Values...)
}

// eachRow passes the rows of a page to fn; they alias the page.
func eachRow(page []byte, fn func(ledger.Content) error) error {
	if len(page) == 0 {
		return fmt.Errorf("%w: it is empty", ErrPage)
	}
	if page[0] != pageFormat {
		return fmt.Errorf("%w: format %d, this version of millrace reads %d", ErrPage, page[0], pageFormat)
	}
	for rest := page[1:]; len(rest) > 0; {
		c := ledger.Content{Overflow: rest[0]&1 != 0, Deleted: rest[0]&2 != 0}
		if rest[0] > 3 {
			return fmt.Errorf("%w: flags %d", ErrPage, rest[0])
		}
		var ok bool
		if c.Key, rest, ok = cutField(rest[1:]); !ok {
			return fmt.Errorf("%w: key", ErrPage)
		}
		if c.Values, rest, ok = cutField(rest); !ok {
			return fmt.Errorf("%w: values", ErrPage)
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
