package breaker

import (
	"time"

	"golang.org/x/time/rate"

	"millrace/pipeline/report"
)

// longestWait bounds what Admit answers, so that a lane notices soon when the level changes.
const longestWait = time.Second

// Admit tells how long to wait after n events were read, before more are: 0 except at level throttled. All lanes of the
// machine share one token bucket. An answer is at most 1 s; afterwards the lane asks with n = 0 until the answer is 0:
//
//	for wait := m.Admit(n); wait > 0; wait = m.Admit(0) { ... }
func (m *Machine) Admit(n int) time.Duration {
	if m.Level() != report.LevelThrottled {
		return 0
	}
	bucket := m.bucket.Load()
	if bucket == nil {
		return 0
	}
	now, burst := time.Now(), bucket.Burst()
	for ; n > burst; n -= burst { // a reservation beyond the burst would be refused
		bucket.ReserveN(now, burst)
	}
	return min(bucket.ReserveN(now, max(n, 0)).DelayFrom(now), longestWait)
}

// adjust keeps the token bucket in step with the level and the journal: from the intake measured when the soft limit was
// crossed, falling to the floor as the journal fills. It is called under the lock, before the level is set.
func (m *Machine) adjust(to report.Level) {
	switch {
	case to == report.LevelNormal:
		m.baseRate = 0
	case overSoft(to) && (!overSoft(m.Level()) || m.baseRate == 0):
		// What an earlier throttling in the same trouble let in is not what wants to come in.
		m.baseRate = max(m.baseRate, m.progress.rate())
	}
	if to != report.LevelThrottled || m.baseRate == 0 {
		m.bucket.Store(nil)
		return
	}
	limit := rate.Limit(m.allowed())
	if bucket := m.bucket.Load(); bucket != nil {
		bucket.SetLimit(limit)
		return
	}
	m.bucket.Store(rate.NewLimiter(limit, max(1, int(m.baseRate/10))))
}

// overSoft reports whether a level means that the journal is over its soft limit, or fuller.
func overSoft(level report.Level) bool { return level.Rank() >= report.LevelThrottled.Rank() }

// allowed is the intake that the journal has room for, in events per second.
func (m *Machine) allowed() float64 {
	room := 0.0
	if between := m.storage.HardLimit - m.storage.SoftLimit; between > 0 {
		room = float64(m.storage.HardLimit-m.storage.Used) / float64(between)
	}
	return max(m.t.FloorRate, m.baseRate*min(room, 1))
}
