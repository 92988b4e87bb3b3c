package chaos

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/tests/rig"
)

const (
	// midCommit is how long a worker may take to send a commit; with a lane it does so every second or more often.
	midCommit = 1500 * time.Millisecond
	// commitSize is more than a lease or a sign of life takes, in bytes.
	commitSize = 1000
)

// inject begins a fault that the rules allow now.
func (r *run) inject(s Step) {
	r.t.Helper()
	r.say("%s", s)
	if s.forgets() {
		r.lose()
	}
	f := &fault{Step: s, due: time.Now().Add(s.For)}
	switch s.Kind {
	case WorkerKill:
		f.end = r.killWorker(s)
	case WorkerFreeze:
		f.end = r.freezeWorker(r.workers[s.Worker])
	case WorkerTerm:
		f.end = r.endWorker(r.workers[s.Worker])
	case WorkerUpgrade, WorkerDowngrade:
		f.end = r.replaceWorker(s)
	case RedisKill:
		r.redis.Kill()
		f.end = r.startRedis
	case RedisWipe:
		r.redis.Kill()
		r.redis.Wipe()
		f.end = r.startRedis
	case RedisFlush:
		require.NoError(r.t, r.probe.FlushAll(context.Background()).Err())
		f.end = func() bool { return true }
	case RedisSlow:
		f.end = r.weather(s, rig.Weather{Delay: s.Delay})
	case RedisHang:
		f.end = r.weather(s, rig.Weather{Hang: true})
	case RedisMute:
		f.end = r.weather(s, rig.Weather{Mute: true})
	case RedisCut:
		f.end = r.cut(s)
	case KafkaKill:
		r.broker.kill()
		f.end = func() bool {
			r.broker.start()
			return true
		}
	case TemporalKill, TemporalAway:
		require.NoError(r.t, r.temporal.Kill())
		f.end = func() bool {
			r.startTemporal()
			return true
		}
	case WALFull:
		f.end = r.fillWAL(s)
	case WALTorn, WALFlip:
		f.end = r.damageWAL(s)
	case ClockJump:
		f.end = r.setClock(s)
	case RedisReadOnly:
		f.end = r.refuseAsReplica()
	case RedisOOM:
		f.end = r.refuseForMemory()
	case RedisKeyLoss:
		f.end = r.deleteKey(s)
	case RedisEvict:
		f.end = r.evictKeys(s)
	}
	r.out.Faults[s.Kind]++
	r.active = append(r.active, f)
}

// killWorker kills a worker, every other time in the middle of a commit: when Redis has got half of what it last sent.
func (r *run) killWorker(s Step) (end func() bool) {
	w := r.workers[s.Worker]
	free := !slices.ContainsFunc(r.active, func(f *fault) bool { return slices.Contains(f.targets(len(r.workers)), link(w.n)) })
	if s.Dice%2 == 0 && free && w.running() {
		w.link.Set(rig.Weather{Hang: true})
		torn := time.NewTimer(midCommit)
		tick := time.NewTicker(time.Millisecond)
		for waiting := true; waiting && w.link.Lost() < commitSize; {
			select {
			case <-tick.C:
			case <-torn.C: // it has no lane
				waiting = false
			}
		}
		torn.Stop()
		tick.Stop()
		defer w.link.Set(rig.Weather{})
	}
	w.process.Kill()
	w.state = down
	return func() bool {
		w.start()
		return true
	}
}

func (r *run) freezeWorker(w *worker) (end func() bool) {
	w.signal(syscall.SIGSTOP)
	w.state = frozen
	return func() bool {
		w.signal(syscall.SIGCONT)
		w.state = up
		return true
	}
}

// endWorker tells a worker to end, and starts its successor when it has. It commits, hands its lanes over and says 0; with
// a server away it may say something else, but it ends.
func (r *run) endWorker(w *worker) (end func() bool) {
	w.signal(syscall.SIGTERM)
	w.state = leaving
	alone := len(r.active) == 0
	return func() bool {
		if !w.process.Ended() {
			alone = alone && len(r.active) == 1
			return false
		}
		// One that was frozen before it could listen for signals had not begun, or was about to end because a server was away.
		if alone && w.process.Said() != "" && w.process.SaidOf(cannotStart) == 0 {
			require.Zero(r.t, w.process.ExitCode(), "%s was told to end:\n%s", w.name, w.process.Tail(30))
		}
		w.start()
		return true
	}
}

// replaceWorker ends a worker, one time of three with kill -9, and starts one of the other release in its place.
func (r *run) replaceWorker(s Step) (end func() bool) {
	w := r.workers[s.Worker]
	w.older = s.Kind == WorkerDowngrade // from its next start on
	if s.Dice%3 == 0 {
		return r.killWorker(s)
	}
	return r.endWorker(w)
}

// setClock makes a worker's clock wrong; in the end it is right again. A worker that answers shows that it has happened.
func (r *run) setClock(s Step) (end func() bool) {
	w := r.workers[s.Worker]
	set := func(by time.Duration) {
		w.clock.Set(r.t, by)
		if v, ok := w.look(); ok {
			require.WithinDuration(r.t, time.Now().Add(by), v.clock, 3*time.Second, "the clock of %s", w.name)
		}
	}
	set(s.Jump)
	return func() bool {
		set(0)
		return true
	}
}

func (r *run) startRedis() bool {
	r.redis.Start()
	return true
}

// hit is the workers whose links a step hits.
func (r *run) hit(s Step) []*worker {
	if s.Worker == Everyone {
		return r.workers
	}
	return r.workers[s.Worker : s.Worker+1]
}

func (r *run) weather(s Step, weather rig.Weather) (end func() bool) {
	set := func(to rig.Weather) {
		for _, w := range r.hit(s) {
			w.link.Set(to)
		}
	}
	set(weather)
	return func() bool {
		set(rig.Weather{})
		return true
	}
}

func (r *run) cut(s Step) (end func() bool) {
	point := func(at string) {
		for _, w := range r.hit(s) {
			w.link.Point(at)
		}
	}
	point("")
	return func() bool {
		point(r.redis.Addr)
		return true
	}
}

// broker is a Kafka that can be killed.
type broker interface {
	address() string
	kill()
	start() // again
}

// ownBroker is an embedded one of this seed's own, or the one of tools/servers.sh when the tests are told to use a real one.
func ownBroker(t *testing.T) broker {
	if addr := os.Getenv("MILLRACE_KAFKA_BROKERS"); addr != "" {
		return &serverBroker{t, addr}
	}
	return &embeddedBroker{t, rig.OwnBroker(t)}
}

type embeddedBroker struct {
	t *testing.T
	*rig.Broker
}

func (b *embeddedBroker) address() string { return b.Addr }
func (b *embeddedBroker) kill()           { b.Stop() }
func (b *embeddedBroker) start()          { b.Restart(b.t) }

type serverBroker struct {
	t    *testing.T
	addr string
}

func (b *serverBroker) address() string { return b.addr }
func (b *serverBroker) kill()           { b.script("kill") }
func (b *serverBroker) start()          { b.script("start") }

func (b *serverBroker) script(command string) {
	out, err := exec.Command("../../tools/servers.sh", command, "kafka").CombinedOutput()
	require.NoError(b.t, err, "tools/servers.sh %s kafka: %s", command, out)
}
