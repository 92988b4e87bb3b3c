package chaos

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLegal(t *testing.T) {
	safe := situation{workers: 3, started: true, kept: true}
	with := func(change func(*situation)) situation {
		s := safe
		change(&s)
		return s
	}
	active := func(steps ...Step) situation { return with(func(s *situation) { s.active = steps }) }
	for _, c := range []struct {
		name string
		now  situation
		step Step
		want string
	}{
		{"a kill at any time", safe, Step{Kind: WorkerKill, Worker: 1}, ""},
		{"nothing before the first commit", with(func(s *situation) { s.started = false }), Step{Kind: RedisSlow}, "the first commit of every lane"},
		{"a loss while every lane is held", safe, Step{Kind: RedisFlush}, ""},
		{"a loss while a lane is not", with(func(s *situation) { s.kept = false }), Step{Kind: RedisWipe}, "every lane to be held by a running worker"},
		{"a kill of Redis needs nobody, its data stays", with(func(s *situation) { s.kept = false }), Step{Kind: RedisKill}, ""},
		{"no loss while a worker is dead", active(Step{Kind: WorkerKill, Worker: 2}), Step{Kind: RedisFlush}, "the end of worker-kill(worker-3)"},
		{"no loss while a worker ends", active(Step{Kind: WorkerTerm}), Step{Kind: RedisWipe}, "the end of worker-term(worker-1)"},
		{"no loss while the broker is away", active(Step{Kind: KafkaKill}), Step{Kind: RedisFlush}, "the end of kafka-kill"},
		{"a loss beside a zombie whose lanes others have", active(Step{Kind: WorkerFreeze}), Step{Kind: RedisFlush}, ""},
		{"a loss with Temporal away", active(Step{Kind: TemporalAway}), Step{Kind: RedisFlush}, ""},
		{"a loss of a slow Redis", active(Step{Kind: RedisSlow, Worker: Everyone}), Step{Kind: RedisFlush}, ""},
		{"no kill before the state is written again", with(func(s *situation) { s.restoring = true }), Step{Kind: WorkerKill}, "every lane to write its state again"},
		{"no second loss either", with(func(s *situation) { s.restoring = true }), Step{Kind: RedisFlush}, "every lane to write its state again"},
		{"nor a kill of Redis", with(func(s *situation) { s.restoring = true }), Step{Kind: RedisKill}, "every lane to write its state again"},
		{"nor of the broker", with(func(s *situation) { s.restoring = true }), Step{Kind: KafkaKill}, "every lane to write its state again"},
		{"nor damage to a log", with(func(s *situation) { s.restoring = true }), Step{Kind: WALFlip}, "every lane to write its state again"},
		{"but a cut connection", with(func(s *situation) { s.restoring = true }), Step{Kind: RedisCut}, ""},
		{"and a restart of Temporal", with(func(s *situation) { s.restoring = true }), Step{Kind: TemporalKill}, ""},
		{"a worker is hit once at a time", active(Step{Kind: WorkerFreeze, Worker: 1}), Step{Kind: WorkerKill, Worker: 1}, "the end of worker-freeze(worker-2)"},
		{"another one may be hit too", active(Step{Kind: WorkerFreeze, Worker: 1}), Step{Kind: WorkerKill, Worker: 2}, ""},
		{"its link may be hit too", active(Step{Kind: WorkerFreeze, Worker: 1}), Step{Kind: RedisHang, Worker: 1}, ""},
		{"a link is hit once at a time", active(Step{Kind: RedisHang, Worker: 1}), Step{Kind: RedisSlow, Worker: Everyone}, "the end of redis-half-open(worker-2)"},
		{"all of them count as each", active(Step{Kind: RedisHang, Worker: Everyone}), Step{Kind: RedisSlow, Worker: 2}, "the end of redis-half-open"},
		{"a clock is set wrong once at a time", active(Step{Kind: ClockJump, Worker: 1}), Step{Kind: ClockJump, Worker: 1}, "the end of clock-jump(worker-2)"},
		{"of a frozen worker too", active(Step{Kind: WorkerFreeze, Worker: 1}), Step{Kind: ClockJump, Worker: 1}, ""},
		{"a key is lost while every lane is held", safe, Step{Kind: RedisKeyLoss}, ""},
		{"and not while a lane is not", with(func(s *situation) { s.kept = false }), Step{Kind: RedisEvict}, "every lane to be held by a running worker"},
		{"nothing is evicted from a dead Redis", active(Step{Kind: RedisKill}), Step{Kind: RedisEvict}, "the end of redis-kill"},
		{"a worker may be killed right after a key was lost", active(Step{Kind: RedisEvict}), Step{Kind: WorkerKill}, ""},
		{"damage needs the link", active(Step{Kind: RedisCut, Worker: 0}), Step{Kind: WALTorn, Worker: 0}, "the end of redis-cut(worker-1)"},
	} {
		t.Run(c.name, func(t *testing.T) { require.Equal(t, c.want, c.now.mayBegin(c.step)) })
	}
}

// Whatever a schedule holds, its steps are legal once everything before is over: no schedule waits for ever.
func TestEveryStepBecomesLegal(t *testing.T) {
	scale := full
	scale.WAL, scale.Clocks, scale.Losses = true, true, true
	over := situation{workers: 3, started: true, kept: true}
	for seed := range uint64(2000) {
		for _, s := range NewPlan(seed, scale).Steps {
			require.Empty(t, over.mayBegin(s), "seed %d, %s", seed, s)
		}
	}
}
