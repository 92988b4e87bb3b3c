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
event: {key: [k], time: {field: t, unit: ms}, max_future: %s, max_past: 1h%s}
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

// Producers stamp their records with their clock, and no event lies ahead of it but in the climate of jumps. The shorter
// max_future is, the less of the log is read for a window that is counted again.
const (
	soon = "20s"
	far  = "35m" // more than jump

	bounded = ", max_jump: 20m, max_jump_streak: 3"
)

// variant is what the pipelines differ in.
type variant struct {
	windows, disorder, lateness string
	buckets, fields, queue      int
	results, rows               string
	pages                       fold.Limits
}

var variants = []variant{
	{hourly, "4s", "6s", 1, 1, 1, "100s", "100s", single},
	{hourly, "0s", "0s", 2, 2, 2, "10s", "300s", runs},
	{daily, "3s", "0s", 1, 2, 1, "200s", "400s", spread},
	{daily, "3s", "5s", 2, 1, 1, "7d", "90d", runs},
	{sliding, "2s", "4s", 1, 1, 2, "30s", "100s", single},
	{mixed, "4s", "3s", 1, 2, 1, "300s", "1h", spread},
}

// What pages and their calls are limited to: so little that a commit of a few entries has several calls.
var (
	single = fold.Limits{Page: 1, Call: 1, Deltas: 3, Merge: 1, Spread: 1 << 20, Deletes: 1}              // an entry is a page, a page is a call
	runs   = fold.Limits{Page: 1 << 10, Call: 1, Deltas: 2, Merge: 1 << 10, Spread: 1 << 20, Deletes: 64} // a run is a page, and a call
	spread = fold.Limits{Page: 1, Call: 150, Deltas: 4, Merge: 200, Spread: 300, Deletes: 2}              // slices grow beyond one hash
)

// setup is a pipeline compiled once and used for many seeds.
type setup struct {
	text    string
	spec    *spec.Spec
	program *fold.Program // its scratch memory is safe to share: no two actors ever run at once
	plan    *window.Plan
	oracle  *oracle.Spec
}

func newSetup(v variant, id setupID) (*setup, error) {
	jumps := bounded
	if id.unbounded {
		jumps = ""
	}
	s := &setup{text: fmt.Sprintf(specText, id.future, jumps, v.windows, v.disorder, v.lateness, v.buckets, v.fields, v.queue,
		v.results, v.rows)}
	var err error
	if s.spec, err = spec.Parse("model.yaml", []byte(s.text)); err != nil {
		return nil, err
	}
	if s.program, err = fold.Compile(s.spec); err != nil {
		return nil, err
	}
	s.program.Limit(v.pages)
	if s.plan, err = window.NewPlan(s.spec); err != nil {
		return nil, err
	}
	s.oracle, err = oracle.ReadSpec([]byte(s.text))
	return s, err
}

// Lab runs seeds one after the other. What is costly to make is made once. It is not safe for concurrent use.
type Lab struct {
	setups map[setupID]*setup
	server *server
	client *redis.Client
	store  *store.Store
	world  *World
}

// setupID is a variant, by its index, with what does not depend on it.
type setupID struct {
	variant   int
	future    string
	keeps     bool // all rows of the ledger
	unbounded bool // no event is refused because it lies far ahead of those before it
}

// idFor chooses what a run needs. What is counted again needs rows; and where jumps are not bounded, rows alone may say what a
// lane's meta has forgotten.
func idFor(o Options, variant int) setupID {
	id := setupID{variant: variant, future: soon}
	if o.Sky == Jumps {
		id.future = far
	}
	if o.After != nil {
		id.keeps, id.unbounded = o.Seed%4 > 0, o.Sky != Jumps && o.Seed%2 == 0
	}
	return id
}

// setup compiles a pipeline unless it was compiled before.
func (l *Lab) setup(id setupID) (*setup, error) {
	if s := l.setups[id]; s != nil {
		return s, nil
	}
	v := variants[id.variant]
	if id.keeps {
		v.rows = "90d"
	}
	s, err := newSetup(v, id)
	l.setups[id] = s
	return s, err
}

// NewLab makes a Redis with nothing in it, and a store over it.
func NewLab() (*Lab, error) {
	l := &Lab{setups: map[setupID]*setup{}}
	var err error
	if l.server, err = newServer(); err != nil {
		return nil, err
	}
	l.client = newClient(hook{l})
	l.store = store.New(l.client)
	return l, nil
}

// newClient makes a client whose calls the hook answers. Its address is never dialled; it is one of the kind that nobody looks
// up in the DNS, either, as a client does with a name when it is made.
func newClient(answers redis.Hook) *redis.Client {
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0", MaxRetries: -1})
	client.AddHook(answers)
	return client
}

// Close gives everything up.
func (l *Lab) Close() error {
	l.server.lua.Close()
	return l.client.Close()
}
