package chaos

import (
	"fmt"
	"slices"
)

// target is what suffers a fault.
type target string

const (
	redisServer target = "redis"
	kafka       target = "kafka"
	temporal    target = "temporal"
	links       target = "link/" // and of which worker
	hosts       target = "worker/"
	clocks      target = "clock/"
)

func link(worker int) target { return target(fmt.Sprint(links, worker)) }
func host(worker int) target { return target(fmt.Sprint(hosts, worker)) }

// target is what a step hits first; targets is all of it.
func (s Step) target() target {
	switch s.Kind {
	case WorkerKill, WorkerFreeze, WorkerTerm, WorkerUpgrade, WorkerDowngrade, WALFull, WALTorn, WALFlip:
		return host(s.Worker)
	case RedisKill, RedisWipe, RedisFlush, RedisReadOnly, RedisOOM, RedisKeyLoss, RedisEvict:
		return redisServer
	case RedisSlow, RedisCut, RedisHang, RedisMute:
		return link(s.Worker)
	case KafkaKill:
		return kafka
	case ClockJump:
		return target(fmt.Sprint(clocks, s.Worker))
	}
	return temporal
}

// targets is everything that a step hits, of so many workers.
func (s Step) targets(workers int) []target {
	if s.Worker == Everyone && s.target() == link(Everyone) {
		var all []target
		for n := range workers {
			all = append(all, link(n))
		}
		return all
	}
	switch s.Kind {
	case WALFull, WALTorn, WALFlip: // the link is cut, so that there is something in the log
		return []target{host(s.Worker), link(s.Worker)}
	}
	return []target{s.target()}
}

// forgets reports whether Redis forgets everything.
func (s Step) forgets() bool { return s.Kind == RedisWipe || s.Kind == RedisFlush }

// losesKeys reports whether Redis loses some of its keys and keeps the others.
func (s Step) losesKeys() bool { return s.Kind == RedisKeyLoss || s.Kind == RedisEvict }

// loses reports whether Redis loses what it acknowledged long ago.
func (s Step) loses() bool { return s.forgets() || s.losesKeys() }

// moves tells whether a step may end a lane or hand it to somebody else.
func (s Step) moves() bool {
	switch s.Kind {
	case RedisSlow, RedisCut, RedisHang, RedisMute, RedisReadOnly, RedisOOM, TemporalKill, TemporalAway, ClockJump:
		return false
	}
	return true
}

// situation is what the rules of package chaos look at.
type situation struct {
	workers   int
	started   bool   // every lane has committed
	kept      bool   // rule 2: the state of every lane is safely in a running worker
	inPages   bool   // all lanes keep their state in pages
	restoring bool   // rule 3: Redis has forgotten, not every lane has written its state again
	active    []Step // begun and not healed
}

// mayBegin returns "" when a step is legal now, and what it waits for otherwise.
func (s *situation) mayBegin(step Step) string {
	switch {
	case !s.started:
		return "the first commit of every lane"
	case step.InPages && !s.inPages:
		return "all lanes to turn to pages"
	case s.restoring && step.moves():
		return "every lane to write its state again"
	case step.loses() && !s.kept:
		return "every lane to be held by a running worker"
	}
	wanted := step.targets(s.workers)
	for _, a := range s.active {
		for _, t := range a.targets(s.workers) {
			if slices.Contains(wanted, t) {
				return fmt.Sprintf("the end of %s", a)
			}
		}
		if step.loses() && a.moves() && a.Kind != WorkerFreeze { // a frozen worker may be one that has no lane any more
			return fmt.Sprintf("the end of %s", a)
		}
	}
	return ""
}
