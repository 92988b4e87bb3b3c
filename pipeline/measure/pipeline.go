package measure

import (
	"maps"
	"sync"
	"sync/atomic"
)

// Process is what one process measures. Its methods may be called from any goroutine.
type Process struct {
	Calls Calls

	mu        sync.Mutex
	pipelines map[string]*Pipeline
}

// NewProcess returns a process that has measured nothing.
func NewProcess() *Process { return &Process{pipelines: make(map[string]*Pipeline)} }

// Pipeline returns what is measured of a pipeline, from its first use on for the life of the process.
func (p *Process) Pipeline(name string) *Pipeline {
	if p == nil {
		return Nothing
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	of := p.pipelines[name]
	if of == nil {
		of = newPipeline()
		p.pipelines[name] = of
	}
	return of
}

// Pipelines returns all pipelines by name.
func (p *Process) Pipelines() map[string]*Pipeline {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.pipelines)
}

// CallsTo returns where calls are counted.
func (p *Process) CallsTo(server string) *Server {
	if p == nil {
		return nil
	}
	return &Server{calls: &p.Calls, name: server}
}

// Pipeline is what a process measures of one pipeline. Its methods, and those of its histograms, may be called from any goroutine.
type Pipeline struct {
	Readable  *Histogram // how old events are when Redis has them
	WindowEnd *Histogram // how long after their ends windows are published first
	Watermark *Histogram // how long after the watermark has passed their ends they are
	Commit    *Histogram // how long a commit takes
	Close     *Histogram // how long merging and publishing a revision takes
	Replay    *Histogram // how long a replay or recount reads and compares

	published published

	mu    sync.Mutex
	steps map[string]*Histogram // nil in Nothing
}

// Nothing takes everything and keeps nothing.
var Nothing = new(Pipeline)

func newPipeline() *Pipeline {
	return &Pipeline{
		Readable: newHistogram(fine), WindowEnd: newHistogram(fine), Watermark: newHistogram(fine),
		Commit: newHistogram(medium), Close: newHistogram(medium), Replay: newHistogram(slow),
		steps: make(map[string]*Histogram),
	}
}

// Step is how long a step of recovery takes. Steps are few and named in the code.
func (p *Pipeline) Step(name string) *Histogram {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.steps == nil {
		return nil
	}
	h := p.steps[name]
	if h == nil {
		h = newHistogram(slow)
		p.steps[name] = h
	}
	return h
}

// Steps returns the steps that have been measured, by name.
func (p *Pipeline) Steps() map[string]*Histogram {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.steps)
}

// Revision is what was published of a window, or said of it once more.
type Revision struct {
	Reason string // of the ledger row
	Number int    // from 1
	Amends bool   // the row alone was written: the content is that of an earlier revision
	Final  bool
	Rows   int64
	Bytes  int64 // of the content, as Redis has it
}

// Published counts what was published of a window.
func (p *Pipeline) Published(r Revision) {
	if p != Nothing {
		p.published.add(r)
	}
}

// published counts revisions.
type published struct {
	closed, final, rows, bytes atomic.Int64

	mu        sync.Mutex
	revisions map[string]int64
}

func (p *published) add(r Revision) {
	if r.Final {
		p.final.Add(1)
	}
	if r.Amends {
		return
	}
	if r.Number == 1 {
		p.closed.Add(1)
	}
	p.rows.Add(r.Rows)
	p.bytes.Add(r.Bytes)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.revisions == nil {
		p.revisions = make(map[string]int64)
	}
	p.revisions[r.Reason]++
}

// Revisions counts what was published of a pipeline's windows.
type Revisions struct {
	Closed, Final int64            // windows with a first revision, and with a final one
	ByReason      map[string]int64 // revisions
	Rows, Bytes   int64            // in them
}

// Count is how many revisions there were.
func (r Revisions) Count() (n int64) {
	for _, of := range r.ByReason {
		n += of
	}
	return n
}

// Revisions returns what was published since the process began.
func (p *Pipeline) Revisions() Revisions {
	r := Revisions{
		Closed: p.published.closed.Load(), Final: p.published.final.Load(),
		Rows: p.published.rows.Load(), Bytes: p.published.bytes.Load(),
	}
	p.published.mu.Lock()
	defer p.published.mu.Unlock()
	r.ByReason = maps.Clone(p.published.revisions)
	return r
}
