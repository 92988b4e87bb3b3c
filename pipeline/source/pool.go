package source

// recordPool recycles the slices of one reader's batches. It never blocks and holds few of them: those that can be under way
// at once.
type recordPool struct {
	free chan pooled
}

// pooled are the slices of one batch.
type pooled struct {
	records []Record
	stamps  []Stamp
}

func newRecordPool(batches int) recordPool { return recordPool{free: make(chan pooled, batches)} }

// get returns empty slices for n records and their stamps.
func (p *recordPool) get(n int) pooled {
	var s pooled
	select {
	case s = <-p.free:
	default:
	}
	if cap(s.records) < n {
		s.records = make([]Record, 0, n+n/8)
	}
	if s.stamps == nil {
		s.stamps = make([]Stamp, 0, 2*stampsPerFetch)
	}
	return s
}

func (p *recordPool) put(s pooled) {
	clear(s.records) // let go of the fetch response
	select {
	case p.free <- pooled{s.records[:0], s.stamps[:0]}:
	default:
	}
}

// Release gives the slices Records and Stamps back to the reader, which uses them for a later batch. Call it at most once, when
// nothing refers to them any more; the bytes of the records stay valid. Not calling it only costs an allocation per batch.
func (b *Batch) Release() {
	if b.pool != nil && b.Records != nil {
		b.pool.put(pooled{b.Records, b.Stamps})
	}
	b.Records, b.Headers, b.Stamps, b.pool = nil, nil, nil, nil
}
