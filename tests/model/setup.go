package model

import (
	"fmt"

	"github.com/redis/go-redis/v9"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
	"millrace/tests/oracle"
)

const (
	pipeline  = "p"
	topic     = "events"
	resultsTo = "p.windows"
	lateTo    = "p.late"
	slots     = 2
)

// specText is a small pipeline; windows, disorder, lateness, buckets, entries per call and commits in flight vary.
const specText = `
name: p
source: {topics: [events], format: json}
event: {key: [k], time: {field: t, unit: ms}, max_past: 1h, max_jump: 20m, max_jump_streak: 3}
where: "v != 13"
aggregates:
  n:    {func: count}
  sum:  {func: sum, field: v, type: int}
  last: {func: last, field: v, type: int}
windows: [%s]
watermark: {out_of_orderness: %s, idle_timeout: 5s}
allowed_lateness: %s
results: {kafka: {topic: p.windows}}
late: {kafka: {topic: p.late}}
dead_letter: {kafka: {topic: p.dead}}
lane: {buckets: %d, chunk_fields: %d, commit_queue: %d}
retention: {results: %s, ledger: %s}
`

const (
	hourly  = "{name: hour, size: 10s}"
	daily   = "{name: hour, size: 10s}, {name: day, size: 30s}"
	sliding = "{name: slide, size: 20s, slide: 10s}"
	mixed   = "{name: hour, size: 10s}, {name: slide, size: 20s, slide: 10s, offset: 5s}"
)

// setup is a pipeline compiled once and used for many seeds.
type setup struct {
	text    string
	spec    *spec.Spec
	program *fold.Program // its scratch memory is safe to share: no two actors ever run at once
	plan    *window.Plan
	oracle  *oracle.Spec
}

func newSetup(windows, disorder, lateness string, buckets, fields, queue int, results, rows string) (*setup, error) {
	s := &setup{text: fmt.Sprintf(specText, windows, disorder, lateness, buckets, fields, queue, results, rows)}
	var err error
	if s.spec, err = spec.Parse("model.yaml", []byte(s.text)); err != nil {
		return nil, err
	}
	if s.program, err = fold.Compile(s.spec); err != nil {
		return nil, err
	}
	if s.plan, err = window.NewPlan(s.spec); err != nil {
		return nil, err
	}
	s.oracle, err = oracle.ReadSpec([]byte(s.text))
	return s, err
}

// Lab runs seeds one after the other. What is costly to make is made once. It is not safe for concurrent use.
type Lab struct {
	setups []*setup
	server *server
	client *redis.Client
	store  *store.Store
	world  *World
}

// NewLab compiles the pipelines.
func NewLab() (*Lab, error) {
	l := &Lab{}
	for _, v := range []struct {
		windows, disorder, lateness string
		buckets, fields, queue      int
		results, rows               string
	}{
		{hourly, "4s", "6s", 1, 1, 1, "100s", "100s"},
		{hourly, "0s", "0s", 2, 2, 2, "10s", "300s"},
		{daily, "3s", "0s", 1, 2, 1, "200s", "400s"},
		{daily, "3s", "5s", 2, 1, 1, "7d", "90d"},
		{sliding, "2s", "4s", 1, 1, 2, "30s", "100s"},
		{mixed, "4s", "3s", 1, 2, 1, "300s", "1h"},
	} {
		s, err := newSetup(v.windows, v.disorder, v.lateness, v.buckets, v.fields, v.queue, v.results, v.rows)
		if err != nil {
			return nil, err
		}
		l.setups = append(l.setups, s)
	}
	var err error
	if l.server, err = newServer(); err != nil {
		return nil, err
	}
	l.client = redis.NewClient(&redis.Options{Addr: "in.memory:0", MaxRetries: -1})
	l.client.AddHook(hook{l})
	l.store = store.New(l.client)
	return l, nil
}

// Close gives everything up.
func (l *Lab) Close() error {
	l.server.lua.Close()
	return l.client.Close()
}
