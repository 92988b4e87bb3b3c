package model

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"millrace/pipeline/ledger"
	"millrace/pipeline/page"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// Options of one run.
type Options struct {
	Seed  uint64
	Off   Rule           // the rule that is switched off, "" for none
	Sky   Climate        // which faults are frequent
	Steps int            // of chaos; 0: the seed decides
	Trace io.Writer      // every step, readable; nil for none
	After func(w *World) // what happens when all was judged; nil for nothing
}

// Outcome of one run.
type Outcome struct {
	Wrong     string // the first thing found wrong, "" when nothing is
	Steps     int
	Faults    int
	Revisions int
	Differing int // of them, those of which only what they change is published
	Shown     int // contents found in Redis
	Finals    int
	Late      int64
	Reseeds   int
	Rebuilds  int
	Seals     int // adopted that went beyond the lane's own watermark
	Idle      int // ledger rows that left out an idle lane
	Steady    int // of them, those whose log went on
	Jumped    int // jumps that were accepted
	Answers   int // of the operator to lanes that had refused too many jumps
	Exempt    int // windows not judged because Redis lost a seal
	Expired   int // views that Redis does not show any more at the end
	Floors    int // raised
	Rows      int // of the ledger that were given up
	Lost      int // keys of lanes that were deleted
	Found     int // acquisitions that found a part of the state gone, or spoilt
	Spoilt    int // entries that were made unreadable
	Replaced  int // rebuilds in place of a state with such entries
	Turned    int // from fields to pages, lanes
	Back      int // lanes of which Redis has forgotten that

	Recounts, Compared, Differ, Refused, Killed, Corrected, Certified, Overtaken int // see recount.go

	Spilled, Superseded, Resumed, Settled int // commits in journals; not applied; applied by a later owner; without a lane
}

// weather is how often which fault happens in this run, per step or per call. Every run has its own: some faults never,
// others often.
type weather struct {
	crash, freeze, revoke, rewind, flush, forget, closer, operator float64
	redis, delay, kafka, side, loss, group                         float64
	flushes                                                        int  // of 20 things a closer does
	keepRulings                                                    bool // no adopted seal is ever lost: everything is judged
}

// World is one run: actors over a Redis and a Kafka in memory, all in one goroutine's order.
type World struct {
	*setup
	lab     *Lab
	rng     *rand.Rand
	ctx     context.Context
	off     Rule
	sky     Climate
	trace   io.Writer
	weather weather
	turning turning
	steps   int
	step    int
	calm    bool // no faults any more
	out     Outcome

	redis   *server
	kafka   *publishtest.Kafka
	parts   []*partition
	now     int64 // ms, the producers' clock
	pace    int64
	keys    int // that events have
	outage  float64
	deaf    int  // step up to which the group's coordinator cannot be reached
	silence int  // a partition falls silent once in this number of appends
	recedes bool // it is always the same one, and it comes back with events older than the others'
	side    []sideRecord
	void    map[[2]int64]bool // partition and offset of late records that a re-seed sent before their seal
	delayed []func()

	actors   []*actor
	current  *actor
	assigned []*laneProc // by partition: whom the coordinator gave it
	hints    []hint      // by partition: the group's offset
	applied  [][]*ruling // by partition: rulings that were ever committed
	reached  []int64     // by partition: highest offset ever committed
	answered [][]int64   // by partition: where its lane went on after too many jumps
	rebuilt  []bool      // by partition: it was read again
	asked    []int64     // by partition: highest drop_before any closer asked for
	damaged  []bool      // by partition: keys were deleted
	folded   []below     // by partition: what was folded
	disks    [][]*disk   // by partition: all there ever were
	infos    map[store.Token]map[string]*commitInfo
	origins  map[store.Token]store.Token // owners that took the place of another one to apply its journal
	rewrites map[store.Token]bool        // owners whose first commit wrote everything again
	closers  []*closerProc
	born     int
	ledger   *ledgerReader
	names    map[string]page.Name  // of pages, by their text
	parsed   map[string]*page.Page // by value
	ended    int                   // the last edition of an earlier life of the pipeline, 0 without one
}

// hint is a group's offset, -1 without one, with its metadata and the rulings that the state there was decided with.
type hint struct {
	offset  int64
	text    string
	rulings []*ruling
}

type sideRecord struct {
	partition int
	offset    int64
	reason    string
}

// Run runs one seed.
func (l *Lab) Run(o Options) (out Outcome) {
	w, err := l.newWorld(o)
	if err != nil {
		return Outcome{Wrong: err.Error()}
	}
	l.world = w
	defer func() {
		if r := recover(); r != nil {
			w.fail("panic: %v\n%s", r, debug.Stack())
		}
		for _, a := range w.actors {
			w.end(a)
		}
		w.out.Steps = w.step
		for _, disks := range w.disks {
			for _, d := range disks {
				_ = d.j.Close() // some of the processes were killed
			}
		}
		out = w.out
	}()
	w.chaos()
	if w.out.Wrong == "" {
		w.heal()
	}
	if w.out.Wrong == "" {
		w.judge()
	}
	if w.out.Wrong == "" && o.After != nil {
		o.After(w)
	}
	return w.out
}

// end crashes the process of an actor when the run is over. What has gone wrong before, without a rule, may leave it in no
// state to unwind.
func (w *World) end(a *actor) {
	defer func() {
		if r := recover(); r != nil && w.out.Wrong == "" {
			w.fail("panic: %v\n%s", r, debug.Stack())
		}
	}()
	w.crash(a.proc)
}

func (l *Lab) newWorld(o Options) (*World, error) {
	rng := rand.New(rand.NewPCG(o.Seed, 0x6d696c6c72616365))
	s, err := l.setup(idFor(o, rng.IntN(len(variants))))
	if err != nil {
		return nil, err
	}
	w := &World{
		setup: s, lab: l, rng: rng, ctx: context.Background(), off: o.Off, sky: o.Sky, trace: o.Trace,
		redis: l.server, kafka: publishtest.New(), void: map[[2]int64]bool{}, now: origin + rng.Int64N(10_000), pace: 500 + rng.Int64N(3_000),
		silence: 3 + rng.IntN(20), steps: 400 + rng.IntN(2000),
	}
	if o.Steps > 0 {
		w.steps = o.Steps
	}
	w.turning, w.keys = newTurning(o.Seed, w.steps), 3
	if w.turning.rng.IntN(3) == 0 {
		w.keys = 12 // a commit touches few of them
	}
	w.names, w.parsed = map[string]page.Name{}, map[string]*page.Page{}
	w.infos, w.origins, w.rewrites = map[store.Token]map[string]*commitInfo{}, map[store.Token]store.Token{}, map[store.Token]bool{}
	l.server.reset()
	l.server.now = w.clock
	n := 2 + rng.IntN(2)
	for range n {
		w.parts = append(w.parts, &partition{now: w.now})
		w.hints, w.asked = append(w.hints, hint{offset: -1}), append(w.asked, window.NoTime)
	}
	w.disks, w.damaged = make([][]*disk, n), make([]bool, n)
	w.assigned, w.applied, w.reached = make([]*laneProc, n), make([][]*ruling, n), make([]int64, n)
	w.folded = make([]below, n)
	w.answered, w.rebuilt = make([][]int64, n), make([]bool, n)
	w.kafka.AddTopic(topic, n)
	w.kafka.AddTopic(resultsTo, 2)
	w.kafka.SetTopicID(resultsTo, "results")
	w.kafka.AddTopic(ledger.Topic(pipeline), slots)
	w.kafka.Plan(w.kafkaStep)
	w.ledger = newLedgerReader(w)
	if o.Seed%3 == 0 {
		w.liveBefore()
	}
	w.weather = newWeather(rng)
	w.settle()
	w.logf("seed %d, %d lanes, %d steps, weather %+v, spec\n%s", o.Seed, n, w.steps, w.weather, w.text)
	for p := range n {
		w.assign(p)
	}
	w.newCloser()
	return w, nil
}

// liveBefore leaves in the ledger what an earlier life of the pipeline left that was removed: floors far above everything
// that comes, and the end of its edition.
func (w *World) liveBefore() {
	w.ended = ledger.Edition
	for slot := range int32(slots) {
		tp := source.TopicPartition{Topic: ledger.Topic(pipeline), Partition: slot}
		leave := func(key []byte, record any) {
			text, err := json.Marshal(record)
			if err != nil {
				w.fail("earlier life: %v", err)
			}
			w.kafka.Append(tp, source.Record{Key: key, Value: text})
		}
		for _, family := range w.spec.Windows {
			f := ledger.Floor{Pipeline: pipeline, Window: family.Name, Edition: w.ended, End: origin + 86_400_000}
			for p := range w.parts {
				f.Lanes = append(f.Lanes, ledger.FloorLane{Topic: topic, Partition: int32(p), Offset: 1 << 20})
			}
			leave(f.Key(), f)
			w.leaveRows(family, slot, leave)
		}
		end := ledger.Ended{Pipeline: pipeline, Edition: w.ended}
		leave(end.Key(), end)
	}
}

// leaveRows leaves final rows of the earlier life, about windows that come again.
func (w *World) leaveRows(family spec.Window, slot int32, leave func(key []byte, record any)) {
	for n := range int64(6) {
		row := ledger.Row{
			Version: ledger.RowVersion, Pipeline: pipeline, Window: family.Name, Start: origin + family.Offset.Millis() + n*family.Slide.Millis(),
			Edition: w.ended, Revision: 1 + int(n%2), Reason: ledger.ReasonWatermark, Final: true, Exact: true, By: "earlier life",
			Keys: 1, Events: 1, Checksum: strings.Repeat("0", 32), Algorithm: ledger.ChecksumAlgorithm,
		}
		row.End = row.Start + family.Size.Millis()
		if row.ID().Slot(slots) == int(slot) {
			leave(row.ID().Key(), &row)
		}
	}
}

func newWeather(rng *rand.Rand) weather {
	often := func(most float64) float64 { return often(rng, most) }
	return weather{
		crash: often(0.02), freeze: often(0.04), revoke: often(0.02), rewind: often(0.03), flush: often(0.002),
		forget: often(0.01), closer: often(0.02), operator: 0.02,
		redis: often(0.1), delay: often(0.1), kafka: often(0.1), side: often(0.2), loss: often(0.01),
		keepRulings: rng.IntN(3) > 0, flushes: 1,
	}
}

// often is a probability of at most most, and in one of three cases none.
func often(rng *rand.Rand, most float64) float64 {
	if rng.IntN(3) == 0 {
		return 0
	}
	return most * rng.Float64() * rng.Float64()
}

// Climate makes some kinds of faults frequent.
type Climate string

// Climates.
const (
	Mixed   Climate = ""        // the seed decides
	Silence Climate = "silence" // a lane falls silent again and again and comes back with old events; owners crash
	Storm   Climate = "storm"   // Redis forgets all the time
	Crowd   Climate = "crowd"   // closers come, freeze and go
	Crashes Climate = "crashes" // processes crash, freeze and lose their lanes
	Outage  Climate = "outage"  // Redis is out of reach again and again, and lanes have journals
	Loss    Climate = "loss"    // keys of lanes are deleted again and again; owners crash
	Refused Climate = "refused" // a lane gets nothing but refused records, and that all the time
	Jumps   Climate = "jumps"   // events are far ahead of those before them, and the operator says which are right
)

func (w *World) settle() {
	f := &w.weather
	if w.sky != Mixed && w.sky != Loss && w.sky != Jumps {
		f.loss = 0 // what is found lost there was never there
	}
	switch w.sky {
	case Loss:
		f.loss, f.crash, f.rewind, f.flush, f.group = 0.01, 0.01, f.rewind/4, 0, often(w.rng, 0.99)
		if w.rng.IntN(3) == 0 {
			w.silence, w.recedes, f.group, f.rewind, f.keepRulings = 2, true, 0.3, 0, true
			f.redis, f.delay, f.kafka, f.side, f.freeze, f.revoke = 0, 0, 0, 0, 0, 0
			w.steps = 1500 + w.rng.IntN(1500)
		}
	case Silence:
		w.silence, w.recedes = 2, true
		f.crash, f.rewind, f.flush, f.side, f.redis, f.delay, f.kafka = 0.01, 0, 0, 0, 0, 0, 0
	case Storm:
		f.rewind, f.redis, f.delay = 0.1, 0, 0
	case Crowd:
		f.freeze, f.closer, f.kafka, f.flushes = 0.06, 0.04, 0, 8
	case Outage:
		w.outage = 0.02 * w.rng.Float64()
	case Refused:
		w.silence, f.rewind, f.flush, f.crash, f.freeze = 40, 0, 0, f.crash/4, f.freeze/2
	case Jumps:
		f.rewind, f.flush, f.keepRulings, f.operator = 0, 0, true, 0.06
		f.crash, f.loss, f.group = 0.01, 0.005, often(w.rng, 0.99)
	case Crashes:
		f.crash, f.revoke, f.freeze = 0.03, 0.03, 0.03
		f.redis, f.delay, f.rewind, f.flush, f.forget = 0, 0, 0, 0, 0
	}
}

func (w *World) logf(format string, args ...any) {
	if w.trace != nil {
		name := "world"
		if w.current != nil {
			name = w.current.name
		}
		fmt.Fprintf(w.trace, "%5d %-10s %s\n", w.step, name, fmt.Sprintf(format, args...))
	}
}

// fail notes the first thing found wrong.
func (w *World) fail(format string, args ...any) {
	if w.out.Wrong == "" {
		w.out.Wrong = fmt.Sprintf(format, args...)
		w.logf("WRONG: %s", w.out.Wrong)
	}
}

func (w *World) roll(p float64) bool { return w.rng.Float64() < p }

func (w *World) faulty(p float64) bool {
	if w.calm || !w.roll(p) {
		return false
	}
	w.out.Faults++
	return true
}

// chaos lets events, actors and faults happen in random order.
func (w *World) chaos() {
	for ; w.step < w.steps && w.out.Wrong == ""; w.step++ {
		switch {
		case w.roll(0.06):
			w.produce()
		case w.disturb():
		default:
			w.resumeAny()
		}
	}
}

// resumeAny runs one actor up to its next call.
func (w *World) resumeAny() bool {
	w.sweep()
	ready := make([]*actor, 0, 16)
	for _, a := range w.actors {
		if a.ready(w.step) {
			if ready = append(ready, a); a.lane == nil { // a closer makes many calls in a round
				ready = append(ready, a, a)
			}
		}
	}
	if len(ready) == 0 {
		return false
	}
	w.resume(ready[w.rng.IntN(len(ready))])
	return true
}

// call is one command on its way from the running actor to Redis; cut means that the connection broke.
func (w *World) call(args []string) (reply any, err error, cut bool) {
	a := w.current
	if a == nil {
		reply, err = w.redis.do(args)
		return reply, err, false
	}
	if !a.pause() {
		return nil, errCrashed, true
	}
	info := w.commitOf(a, args)
	switch {
	case a.lane != nil && a.lane.cut():
		w.logf("redis %s: out of reach", describe(args))
		return nil, errUnreachable, true
	case w.faulty(w.weather.redis):
		if w.rng.IntN(2) == 0 {
			w.logf("redis %s: lost on its way", describe(args))
			return nil, errInjected, true
		}
		w.execute(args, info)
		w.logf("redis %s: answer lost", describe(args))
		return nil, errInjected, true
	case w.faulty(w.weather.delay):
		w.logf("redis %s: delayed", describe(args))
		w.delayed = append(w.delayed, func() {
			w.logf("redis %s: arrives late", describe(args))
			_, _ = w.execute(args, info)
		})
		return nil, errInjected, true
	}
	reply, err = w.execute(args, info)
	return reply, err, false
}

// transaction is MULTI, commands, EXEC: nothing comes between them. The store only reads in transactions.
func (w *World) transaction(cmds []redis.Cmder) error {
	if a := w.current; a != nil {
		if !a.pause() {
			return errCrashed
		}
		if a.lane != nil && a.lane.cut() {
			return errUnreachable
		}
		if w.faulty(w.weather.redis) {
			w.logf("redis transaction of %d commands: lost", len(cmds))
			return errInjected
		}
	}
	for _, cmd := range cmds {
		reply, err := w.execute(argsOf(cmd), nil)
		if err := answer(cmd, reply, err); err != nil {
			return err
		}
	}
	return nil
}

// execute runs a command and, when it was a commit's meta, checks the lane's state.
func (w *World) execute(args []string, info *commitInfo) (reply any, err error) {
	ledger := "mr:{" + hashTag(args) + "}:ledger"
	shown := w.redis.tag(hashTag(args)).hashes[ledger]["current"]
	fields := !inPages(w.redis.tag(hashTag(args)))
	calls, restore := len(w.redis.tag(hashTag(args)).calls), w.twistScript(args)
	reply, err = w.redis.do(args)
	restore()
	switch now, still := w.redis.cur.hashes[ledger]["current"]; {
	case shown != "" && !still:
		w.checkGone(hashTag(args))
	case shown != "" && atoi(now) < atoi(shown):
		w.fail("the view of %s goes back from revision %s to %q", hashTag(args), shown, now)
	}
	if w.redis.unknown != "" {
		w.fail("the model's redis has no command %q", w.redis.unknown)
	}
	if w.trace != nil && (args[0] != "hkeys" || len(reply.([]any)) > 0) { // most of the hashes of a slice are never used
		w.logf("redis %s -> %.80q %v", describe(args), fmt.Sprint(reply), err)
	}
	if info != nil && accepted(reply) {
		t := w.redis.cur
		t.marks = append(t.marks, mark{info, len(t.calls)})
		last := len(t.calls) - 1
		t.calls[last] = append(t.calls[last], func() { t.marks = t.marks[:len(t.marks)-1] })
		w.reached[info.partition] = max(w.reached[info.partition], info.offset)
		for _, s := range info.rulings {
			if !slices.Contains(w.applied[info.partition], s) {
				w.applied[info.partition] = append(w.applied[info.partition], s)
			}
		}
		if info.answers {
			w.answered[info.partition] = append(w.answered[info.partition], info.offset)
		}
		w.checkLane(info.partition, t)
	}
	if t := w.redis.cur; len(t.calls) > calls {
		if p := slices.IndexFunc(w.assigned, func(l *laneProc) bool { return l != nil && l.id.String() == t.name }); p >= 0 {
			if fields && inPages(t) {
				w.out.Turned++
			}
			w.checkContent(p, t)
		}
	}
	return reply, err
}

// kafkaStep is one request of a closer or a lane to Kafka.
func (w *World) kafkaStep(s publishtest.Step) publishtest.Outcome {
	a := w.current
	if a == nil {
		return publishtest.Pass
	}
	if !a.pause() {
		return publishtest.FailBefore
	}
	outcome := publishtest.Pass
	if w.faulty(w.weather.kafka) {
		outcome = publishtest.FailBefore
		if w.rng.IntN(2) == 0 {
			outcome = publishtest.FailAfter
		}
	}
	w.logf("kafka %s slot %d: %s", s.Name, s.Slot, [...]string{"ok", "lost on its way", "answer lost"}[outcome])
	return outcome
}

// ends asks the brokers like a client of its own does.
func (w *World) ends(p int) (source.Ends, error) {
	tp := source.TopicPartition{Topic: topic, Partition: int32(p)}
	ends, err := w.kafka.Ends(w.ctx, tp)
	return ends[tp], err
}

// stepMs is how much time passes with every step, so that a run lasts longer than the retention and the pauses of floors.
const stepMs = 1000

// clock is the time of the closers and of Redis, in ms.
func (w *World) clock() int64 { return int64(w.step) * stepMs }

// due reports whether what was made final at closedAt is not kept in Redis any more.
func (w *World) due(closedAt int64) bool {
	return w.spec.Retention.Left(closedAt, time.UnixMilli(w.clock())) <= 0
}

func laneID(p int) store.LaneID {
	return store.LaneID{Pipeline: pipeline, Topic: topic, Partition: int32(p)}
}

// laneTag is what Redis holds of a lane.
func (w *World) laneTag(p int) *tag { return w.redis.tag(laneID(p).String()) }
