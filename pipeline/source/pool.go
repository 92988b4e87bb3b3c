package source

// recordPool recycles the record slices of one reader. It never blocks and holds few slices: those that can be under way
// at once.
type recordPool struct {
	free chan []Record
}

func newRecordPool(slices int) recordPool { return recordPool{free: make(chan []Record, slices)} }

// get returns an empty slice for n records.
func (p *recordPool) get(n int) []Record {
	select {
	case s := <-p.free:
		if cap(s) >= n {
			return s
		}
	default:
	}
	return make([]Record, 0, n+n/8)
}

func (p *recordPool) put(s []Record) {
	clear(s) // let go of the fetch response
	select {
	case p.free <- s[:0]:
	default:
	}
}

// Release gives the slice Records back to the reader, which uses it for a later batch. Call it at most once, when nothing
// refers to the slice any more; the bytes of the records stay valid. Not calling it only costs an allocation per batch.
func (b *Batch) Release() {
	if b.pool != nil && b.Records != nil {
		b.pool.put(b.Records)
	}
	b.Records, b.Headers, b.pool = nil, nil, nil
}
