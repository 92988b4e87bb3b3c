package wal

import "sort"

// stream is what the log knows of one stream. The log's mutex guards it.
type stream struct {
	key      string
	chains   []*ChainInfo
	released uint64 // records below this index are not needed
	uses     int    // staged records and segments that refer to it
}

// ChainInfo sums up the records of one chain that are stored and not released; a chain goes when its last record is
// released. Counts and First are those of all records since the chain began or, after opening, of those found then.
type ChainInfo struct {
	Chain      string `json:"chain"`
	First      Place  `json:"first"`
	Last       Place  `json:"last"`
	FirstIndex uint64 `json:"firstIndex"`
	LastIndex  uint64 `json:"lastIndex"`
	Pos        int64  `json:"pos"` // the highest
	Records    uint64 `json:"records"`
	Bytes      int64  `json:"bytes"` // of data
	Gaps       int    `json:"gaps"`  // places that did not follow their predecessor
}

// StreamInfo sums up a stream.
type StreamInfo struct {
	Stream   string      `json:"stream"`
	Released uint64      `json:"released"` // records below this index were released
	Chains   []ChainInfo `json:"chains"`   // in the order they began
}

// note adds a durable record. Chains rarely change, so the last one is tried first.
func (st *stream) note(r *Record) {
	var c *ChainInfo
	for i := len(st.chains) - 1; i >= 0 && c == nil; i-- {
		if st.chains[i].Chain == string(r.Chain) {
			c = st.chains[i]
		}
	}
	if c == nil {
		c = &ChainInfo{Chain: string(r.Chain), First: r.Place, FirstIndex: r.Index, Pos: r.Pos}
		st.chains = append(st.chains, c)
	} else if !r.Place.Follows(c.Last) {
		c.Gaps++
	}
	c.Last, c.LastIndex, c.Pos = r.Place, r.Index, max(c.Pos, r.Pos)
	c.Records++
	c.Bytes += int64(len(r.Data))
}

// release forgets chains that end below before.
func (st *stream) release(before uint64) {
	st.released = max(st.released, before)
	kept := st.chains[:0]
	for _, c := range st.chains {
		if c.LastIndex >= st.released {
			kept = append(kept, c)
		}
	}
	clear(st.chains[len(kept):])
	st.chains = kept
}

// Streams sums up every stream that has durable records not yet released, sorted by name.
func (l *Log) Streams() []StreamInfo {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []StreamInfo
	for _, st := range l.streams {
		if len(st.chains) == 0 {
			continue
		}
		info := StreamInfo{Stream: st.key, Released: max(st.released, l.head)}
		for _, c := range st.chains {
			info.Chains = append(info.Chains, *c)
		}
		all = append(all, info)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].Stream < all[j].Stream })
	return all
}

func (l *Log) streamOf(key []byte) *stream {
	st := l.streams[string(key)]
	if st == nil {
		st = &stream{key: string(key)}
		l.streams[st.key] = st
	}
	return st
}

// unuse drops a reference and forgets a stream nothing refers to.
func (l *Log) unuse(st *stream) {
	if st.uses--; st.uses == 0 {
		delete(l.streams, st.key)
	}
}
