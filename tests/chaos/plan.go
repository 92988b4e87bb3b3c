package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Kind is a kind of fault.
type Kind string

// What can be injected.
const (
	WorkerKill      Kind = "worker-kill"        // kill -9, and a new one later
	WorkerFreeze    Kind = "worker-freeze"      // SIGSTOP, SIGCONT later: a zombie when others took over meanwhile
	WorkerTerm      Kind = "worker-term"        // SIGTERM, and a new one: one step of a rolling restart
	WorkerUpgrade   Kind = "worker-upgrade"     // SIGTERM or kill -9 of a worker of the older release, and one of the newer
	WorkerDowngrade Kind = "worker-downgrade"   // the reverse
	RedisKill       Kind = "redis-kill"         // kill -9; comes back with its data
	RedisWipe       Kind = "redis-wipe"         // kill -9; comes back without its data
	RedisFlush      Kind = "redis-flush"        // FLUSHALL
	RedisSlow       Kind = "redis-slow"         // every piece of a link to Redis takes longer
	RedisCut        Kind = "redis-cut"          // connections are cut, new ones refused
	RedisHang       Kind = "redis-half-open"    // connections stay, bytes vanish
	RedisMute       Kind = "redis-lost-answers" // Redis gets the requests, nobody gets the answers
	KafkaKill       Kind = "kafka-kill"         // kill -9 of the broker; comes back with its data
	TemporalKill    Kind = "temporal-kill"      // kill -9 of Temporal; comes back at once
	TemporalAway    Kind = "temporal-away"      // the same, back only after a long time
	WALFull         Kind = "wal-full"           // no room in the directory of the write-ahead log while Redis is away
	WALTorn         Kind = "wal-torn"           // the end of a dead worker's log is torn off
	WALFlip         Kind = "wal-flip"           // a bit in a dead worker's log is flipped
	ClockJump       Kind = "clock-jump"         // a worker's wall clock is set wrong, and right again later
	RedisReadOnly   Kind = "redis-read-only"    // Redis takes no writes: it was made a replica
	RedisOOM        Kind = "redis-oom"          // Redis takes no writes: it is at its memory limit
	RedisKeyLoss    Kind = "redis-key-loss"     // one key of a lane's state is deleted
	RedisEvict      Kind = "redis-evict"        // Redis is short of memory and allowed to evict: some keys are gone
	StoresGone      Kind = "stores-gone"        // a stopped pipeline's Redis is emptied and its consumer group deleted
	TopicAgain      Kind = "topic-again"        // the source topic is deleted and made again while the pipeline is paused
	LogTrimmed      Kind = "log-trimmed"        // retention passes lanes that are paused
)

// Kinds are all kinds in the order of tables.
var Kinds = []Kind{WorkerKill, WorkerFreeze, WorkerTerm, WorkerUpgrade, WorkerDowngrade,
	RedisKill, RedisWipe, RedisFlush, RedisSlow, RedisCut, RedisHang, RedisMute,
	KafkaKill, TemporalKill, TemporalAway, WALFull, WALTorn, WALFlip, ClockJump,
	RedisReadOnly, RedisOOM, RedisKeyLoss, RedisEvict, StoresGone, TopicAgain, LogTrimmed}

// Everyone is the worker of faults that hit the links of all workers.
const Everyone = -1

// Step is one fault of a schedule.
type Step struct {
	Kind    Kind
	Worker  int           // for faults of a worker or its link
	After   time.Duration // since the step before began, or was over where it loses data
	For     time.Duration // until it is healed
	Delay   time.Duration // of RedisSlow
	Jump    time.Duration // of ClockJump: how wrong the clock is
	InPages bool          // waits until all lanes are in pages
	Dice    uint64        // decides what is left open here, such as which bit is flipped
}

func (s Step) String() string {
	text := string(s.Kind)
	if s.Worker != Everyone && s.target() != redisServer && s.target() != kafka && s.target() != temporal {
		text += fmt.Sprintf("(worker-%d)", s.Worker+1)
	}
	if s.Delay > 0 {
		text += " by " + s.Delay.String()
	}
	if s.Jump != 0 {
		text += " by " + s.Jump.String()
	}
	if s.For > 0 {
		text += " for " + s.For.String()
	}
	if s.InPages {
		text = "all lanes in pages, " + text
	}
	return text
}

// Plan is what one seed does.
type Plan struct {
	Seed       uint64
	Workers    int
	Replicas   int
	Partitions int32
	Variant    string
	YAML       string
	Events     int
	Feed       time.Duration // how long the feed takes when nothing delays it
	Fsync      string        // Redis's appendfsync
	Start      int           // where in the flights the input begins
	Quiet      bool          // the last partition falls silent after a third of the feed
	Refused    bool          // instead, it gets nothing but records that are refused
	Journal    bool          // lane.overflow: journal, and write-ahead logs
	Wide       bool          // some events carry texts of hundreds of kilobytes
	Mixed      bool          // the workers are those of an older release first, then of both, then of this one
	Steps      []Step
	Epilogue   Kind // what happens when everything is read and healed, "" for nothing: an operator has to decide then
}

func (p *Plan) String() string {
	steps := make([]string, len(p.Steps))
	for i, s := range p.Steps {
		steps[i] = s.String()
	}
	journal := ""
	if p.Journal {
		journal = ", journal"
	}
	if p.Wide {
		journal += ", wide texts"
	}
	if p.Refused {
		journal += ", the last partition gets refused records only"
	}
	if p.Mixed {
		journal += ", two releases"
	}
	if p.Epilogue != "" {
		steps = append(steps, "then "+string(p.Epilogue))
	}
	return fmt.Sprintf("%s, %d events over %d partitions, %d workers, %d replicas, appendfsync %s%s: %s", p.Variant, p.Events,
		p.Partitions, p.Workers, p.Replicas, p.Fsync, journal, strings.Join(steps, ", "))
}

// Uses reports whether a step or the epilogue is of one of these kinds.
func (p *Plan) Uses(kinds ...Kind) bool {
	return slices.Contains(kinds, p.Epilogue) || slices.ContainsFunc(p.Steps, func(s Step) bool { return slices.Contains(kinds, s.Kind) })
}

// Scale says how large a schedule is.
type Scale struct {
	Events int           // at most
	Faults int           // at most
	Away   time.Duration // how long Temporal is away
	WAL    bool          // workers have a write-ahead log
	Clocks bool          // workers' clocks are set
	Losses bool          // Redis loses part of what it holds
	Mixed  bool          // workers of two releases
	Denied bool          // servers refuse writes, logs are trimmed, a partition gets refused records only
}

// NewPlan decides everything from the seed. The write-ahead log, clocks, losses of single keys and releases each have a random sequence
// of their own, so that the rest of a seed is the same with and without them.
func NewPlan(seed uint64, scale Scale) *Plan {
	rng := rand.New(rand.NewPCG(seed, 0))
	p := &Plan{Seed: seed, Workers: 2 + rng.IntN(2), Fsync: pick(rng, "everysec", "always")}
	p.Replicas = 1 + rng.IntN(p.Workers)
	p.Partitions = 1 + rng.Int32N(8)
	v := pick(rng, variants...)
	p.Variant, p.YAML = v.name, v.yaml
	p.Events = scale.Events/3 + rng.IntN(scale.Events*2/3)
	p.Feed = between(rng, 12*time.Second, 18*time.Second)
	p.Start = rng.IntN(150_000)
	// Small calls, so that a commit takes many of them and a fault finds it half done.
	p.YAML = strings.Replace(p.YAML, "lane: {", fmt.Sprintf("lane: {commit_interval: %dms, chunk_fields: %d, ",
		pick(rng, 50, 200, 1000), pick(rng, 1, 4, 32)), 1)
	p.Quiet = v.idle && p.Partitions > 1
	steps := max(1, scale.Faults*3/4) + rng.IntN(max(1, scale.Faults/4+1))
	kinds := usual
	if v.idle {
		kinds = slices.DeleteFunc(slices.Clone(usual), func(k Kind) bool { return k == KafkaKill }) // see input.go
	}
	for range steps {
		p.Steps = append(p.Steps, p.step(rng, scale, pick(rng, kinds...)))
	}
	if scale.WAL {
		p.journal(rand.New(rand.NewPCG(seed, 1)), scale)
	}
	if scale.Clocks {
		p.clocks(rand.New(rand.NewPCG(seed, 2)), scale)
	}
	if scale.Losses {
		p.addLosses(rand.New(rand.NewPCG(seed, 3)), scale)
	}
	if scale.Denied {
		p.addDenials(rand.New(rand.NewPCG(seed, 4)), scale)
	}
	if scale.Mixed {
		p.mixReleases(rand.New(rand.NewPCG(seed, 5)), scale)
	}
	return p
}

// usual are the faults of every schedule; what is here twice comes twice as often.
var usual = []Kind{WorkerKill, WorkerKill, WorkerFreeze, WorkerFreeze, WorkerTerm, RedisKill, RedisKill, RedisWipe, RedisFlush,
	RedisSlow, RedisCut, RedisHang, RedisMute, KafkaKill, TemporalKill, TemporalAway}

func (p *Plan) step(rng *rand.Rand, scale Scale, kind Kind) Step {
	s := Step{Kind: kind, Worker: rng.IntN(p.Workers), After: between(rng, 200*time.Millisecond, 2500*time.Millisecond), Dice: rng.Uint64()}
	switch kind {
	case WorkerKill:
		s.For = between(rng, 0, 4*time.Second)
	case WorkerFreeze:
		s.For = between(rng, time.Second, 14*time.Second) // a worker is missed after 5 to 10 s
	case WorkerTerm, WorkerUpgrade, WorkerDowngrade:
		s.For = between(rng, 0, time.Second)
	case RedisKill:
		s.For = between(rng, 0, 4*time.Second)
	case RedisWipe:
		s.For = between(rng, 0, 2*time.Second)
	case RedisSlow:
		s.For, s.Delay = between(rng, 2*time.Second, 6*time.Second), between(rng, 20*time.Millisecond, 400*time.Millisecond)
	case RedisCut, RedisHang, RedisMute:
		s.For = between(rng, 100*time.Millisecond, 5*time.Second)
	case KafkaKill:
		s.For = between(rng, 0, 4*time.Second)
	case TemporalKill:
		s.For = between(rng, 0, time.Second)
	case TemporalAway:
		s.For = scale.Away
	case WALFull:
		s.For = between(rng, 3*time.Second, 6*time.Second)
	case WALTorn, WALFlip:
		s.For = between(rng, 2*time.Second, 5*time.Second)
	case ClockJump:
		s.For = between(rng, 2*time.Second, 8*time.Second)
		s.Jump = pick(rng, time.Second, -time.Second) * time.Duration(pick(rng, 2, 61, 3_601, 90_000))
	case RedisEvict:
		s.For = between(rng, 500*time.Millisecond, 3*time.Second)
	case RedisReadOnly, RedisOOM:
		s.For = between(rng, 500*time.Millisecond, 8*time.Second)
	}
	if s.target() == link(s.Worker) && rng.IntN(2) == 0 {
		s.Worker = Everyone
	}
	return s
}

// journal gives two seeds of three a write-ahead log, and most of those damage it.
func (p *Plan) journal(rng *rand.Rand, scale Scale) {
	p.Journal = rng.IntN(3) > 0
	if !p.Journal {
		return
	}
	p.YAML = strings.Replace(p.YAML, "lane: {", "lane: {overflow: journal, ", 1)
	for range rng.IntN(3) {
		s := p.step(rng, scale, pick(rng, WALFull, WALTorn, WALFlip))
		p.Steps = slices.Insert(p.Steps, rng.IntN(len(p.Steps)+1), s)
	}
}

// clocks sets clocks in one seed of two.
func (p *Plan) clocks(rng *rand.Rand, scale Scale) {
	if rng.IntN(2) > 0 {
		return
	}
	for range 1 + rng.IntN(3) {
		s := p.step(rng, scale, ClockJump)
		p.Steps = slices.Insert(p.Steps, rng.IntN(len(p.Steps)+1), s)
	}
}

// addLosses makes Redis lose part of its keys in one seed of two, gives one seed of three an epilogue, and makes some texts
// of synthetic events wide: large calls and rows are slow, and half of them is lost with a connection. A lane that was
// idle has adopted seals that only its state knows, and a rebuild may decide events between them anew; so pipelines with
// idle lanes lose none.
func (p *Plan) addLosses(rng *rand.Rand, scale Scale) {
	if p.variant().idle {
		return
	}
	if rng.IntN(3) == 0 {
		p.Epilogue = pick(rng, StoresGone, TopicAgain)
	}
	if p.Wide = !p.variant().flights; p.Wide {
		p.YAML = strings.Replace(p.YAML, "event:", fmt.Sprintf("event:\n  max_value_bytes: %d", widest), 1)
	}
	if rng.IntN(2) > 0 {
		return
	}
	for range 1 + rng.IntN(2) {
		s := p.step(rng, scale, pick(rng, RedisKeyLoss, RedisKeyLoss, RedisEvict))
		p.Steps = slices.Insert(p.Steps, rng.IntN(len(p.Steps)+1), s)
	}
}

// addDenials makes Redis refuse writes in one seed of two, trims the log under paused lanes in half of those that have no
// epilogue yet, and gives the last partition of half the pipelines with idle lanes nothing but refused records. Where a log is
// trimmed no keys are lost: a lane would have to read again what is gone.
func (p *Plan) addDenials(rng *rand.Rand, scale Scale) {
	if p.Quiet && rng.IntN(2) == 0 {
		p.Quiet, p.Refused = false, true
	}
	if !p.variant().idle && p.Epilogue == "" && rng.IntN(2) == 0 {
		p.Epilogue, p.Steps = LogTrimmed, slices.DeleteFunc(p.Steps, Step.losesKeys)
	}
	if rng.IntN(2) > 0 {
		return
	}
	for range 1 + rng.IntN(2) {
		s := p.step(rng, scale, pick(rng, RedisReadOnly, RedisOOM))
		p.Steps = slices.Insert(p.Steps, rng.IntN(len(p.Steps)+1), s)
	}
}

func pick[T any](rng *rand.Rand, of ...T) T { return of[rng.IntN(len(of))] }

// between is a whole number of milliseconds.
func between(rng *rand.Rand, from, to time.Duration) time.Duration {
	return from + time.Duration(rng.Int64N(int64((to-from)/time.Millisecond)))*time.Millisecond
}
