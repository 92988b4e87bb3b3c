package main

// Row is what an engine has to publish for a key and a window.
type Row struct{ Count, Sum, Min, Max int64 }

func (r *Row) add(v int64) {
	if r.Count == 0 {
		*r = Row{Min: v, Max: v}
	}
	r.Count++
	r.Sum += v
	r.Min = min(r.Min, v)
	r.Max = max(r.Max, v)
}

// Grid has a place for every window and key of a workload.
type Grid struct {
	w       *Workload
	first   int64 // start of the first window
	windows int64
	rows    []Row
}

func newGrid(w *Workload) *Grid {
	first := w.Start - w.Size + w.Slide
	g := &Grid{w: w, first: first, windows: (w.Start+w.Span-first+w.Slide-1)/w.Slide + 1}
	g.rows = make([]Row, g.windows*w.Keys)
	return g
}

// place returns the index of a row, or -1 if the workload has no such window.
func (g *Grid) place(start, key int64) int64 {
	n := start - g.first
	if n < 0 || n%g.w.Slide != 0 || n/g.w.Slide >= g.windows {
		return -1
	}
	return n/g.w.Slide*g.w.Keys + key
}

// truth computes every row from the events, and how many rows are not empty.
func truth(w *Workload) (g *Grid, filled int64) {
	g = newGrid(w)
	w.each(func(e Event) {
		for start := e.At - (e.At-g.first)%w.Slide; start > e.At-w.Size; start -= w.Slide {
			g.rows[g.place(start, e.Key)].add(e.Value)
		}
	})
	for _, r := range g.rows {
		if r.Count > 0 {
			filled++
		}
	}
	return g, filled
}
