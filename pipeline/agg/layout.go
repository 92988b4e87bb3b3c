package agg

import (
	"errors"
	"fmt"
	"math/bits"

	"millrace/pipeline/event"
	"millrace/pipeline/spec"
)

// ErrLayout is wrapped by every error of NewLayout.
var ErrLayout = errors.New("aggregates cannot be compiled")

// A row is its header and the state of each column:
//
//	0  key, 16 bytes: see setKey
//	16 stamp
//	24 count
//	32 dirty epoch: the row is dirty when it equals the table's
//	40 columns
const (
	offStamp   = 16
	offCount   = 24
	offEpoch   = 32
	headerSize = 40
)

// chunkBytes bounds a chunk of rows: what one growth of a table costs at most.
const chunkBytes = 128 << 10

// Layout is the shape of entry state for one spec. It is immutable and safe for concurrent use.
type Layout struct {
	fields   []field
	ops      []op
	owners   []owned
	template []byte // a row of a key without events
	stride   int    // bytes of a row
	shift    uint   // rows in a full chunk, as a power of two
}

// field is one published value: its column, where the column's state begins in a row, and the JSON before the value.
type field struct {
	column column
	offset int
	prefix []byte
}

// owned is a column that may own a block of the arena, and where its state begins in a row.
type owned struct {
	owner
	offset int
}

// columns make the state of the functions that spec.Functions lists. The type is one of the function's.
var columns = map[string]func(typ string) column{
	"count": newCount,
	"sum":   newSum,
	"avg":   newAvg,
	"min":   newMin,
	"max":   newMax,
	"first": newFirst,
	"last":  newLast,
}

// NewLayout compiles the aggregates of a validated spec. Its errors wrap ErrLayout and name the aggregate.
func NewLayout(s *spec.Spec) (*Layout, error) {
	l := &Layout{stride: headerSize}
	for i, a := range s.Aggregates {
		construct := columns[a.Func]
		if construct == nil || !spec.HasFunction(a.Func, a.Type) {
			return nil, fmt.Errorf("%w: %s: func %q with type %q does not exist", ErrLayout, a.Name, a.Func, a.Type)
		}
		c := construct(a.Type)
		slot := event.SlotOf(s, i)
		if code := c.op(); code != opNone {
			if slot < 0 {
				return nil, fmt.Errorf("%w: %s: %s needs a field", ErrLayout, a.Name, a.Func)
			}
			folds, _ := c.(folder)
			l.ops = append(l.ops, op{code: code, slot: uint32(slot), offset: uint32(l.stride), folder: folds})
		}
		if c, ok := c.(owner); ok {
			l.owners = append(l.owners, owned{c, l.stride})
		}
		prefix := []byte{','}
		if i == 0 {
			prefix[0] = '{'
		}
		prefix = append(event.AppendString(prefix, []byte(a.Name)), ':')
		l.fields = append(l.fields, field{column: c, offset: l.stride, prefix: prefix})
		l.stride += c.size()
	}
	l.template = make([]byte, l.stride)
	for _, f := range l.fields {
		f.column.init(l.template[f.offset:])
	}
	l.shift = uint(max(bits.Len(uint(chunkBytes/l.stride))-1, 4))
	return l, nil
}

// RowBytes is the memory of one entry in a table, without its share of the index and without long keys and strings.
func (l *Layout) RowBytes() int { return l.stride }
