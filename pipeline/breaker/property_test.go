package breaker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

// model says what the level ought to be, slowly and from the whole past: what the journal said at each look, the breaker's present
// state and the order in force.
type model struct {
	looks  []Storage // one each 200 ms
	order  report.Override
	level  report.Level // when held
	direct bool
}

// stillOn tells whether a condition counts as there: it was seen, and since then it has at no time been over for a second.
func (m *model) stillOn(seen, over func(Storage) bool) bool {
	last := len(m.looks) - 1
	for last >= 0 && !seen(m.looks[last]) {
		last--
	}
	if last < 0 {
		return false
	}
	const second = 5 // looks from the first that found it over
	for i := last + 1; i+second < len(m.looks); i++ {
		all := true
		for _, s := range m.looks[i : i+second+1] {
			all = all && over(s)
		}
		if all {
			return false
		}
	}
	return true
}

func (m *model) expect(breaker string) (report.Level, bool) {
	if m.order == report.OverrideHold {
		return m.level, m.direct
	}
	open := m.order == report.OverrideOpen || breaker != "closed" && m.order != report.OverrideClose
	journal := len(m.looks) > 0 && m.looks[len(m.looks)-1].Journal
	waits := m.stillOn(func(s Storage) bool { return s.PendingCommits > 0 }, func(Storage) bool { return true })
	soft := m.stillOn(func(s Storage) bool { return s.Soft || s.Hard }, func(s Storage) bool { return s.Used <= 540 && !s.Soft && !s.Hard })
	hard := m.stillOn(func(s Storage) bool { return s.Hard }, func(s Storage) bool { return s.Used <= 960 && !s.Hard })
	level := report.LevelNormal
	if open || waits {
		level = report.LevelJournal
		if soft {
			level = report.LevelThrottled
		}
		if hard {
			level = report.LevelPaused
		}
	}
	if open && !journal {
		level = report.LevelPaused
	}
	return level, !open
}

// Whatever happens, the level is the model's, and the changes are an unbroken chain with a reason for each link.
func TestLevelsFollowTheModel(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, Thresholds{OpenFor: 5 * time.Second}, func(t *testing.T, r *rig) { wander(t, r, rand.New(rand.NewPCG(seed, 3))) })
		})
	}
}

func wander(t *testing.T, r *rig, random *rand.Rand) {
	m := &model{}
	said := Storage{}
	say := func(s Storage) {
		said = s
		r.mu.Lock()
		r.storage = s
		r.mu.Unlock()
	}
	wait := func(looks int) {
		r.pass(time.Duration(looks) * 200 * time.Millisecond)
		for range looks {
			m.looks = append(m.looks, said)
		}
	}
	orders := []report.Override{report.OverrideNone, report.OverrideNone, report.OverrideHold, report.OverrideOpen, report.OverrideClose}
	visited := map[report.Level]bool{}
	r.pass(100 * time.Millisecond) // everything happens between two looks
	for step := range 150 {
		op := random.IntN(10)
		switch op {
		case 0, 1, 2, 3:
			used := []int64{0, 100, 540, 541, 599, 600, 700, 960, 961, 999, 1000}[random.IntN(11)]
			s := stored(used, random.Int64N(3))
			s.Journal = random.IntN(8) > 0
			s.Hard = s.Hard || random.IntN(10) == 0 // or failed
			say(s)
		case 4:
			r.away()
		case 5:
			r.back()
		case 6:
			r.Assigned(time.Minute)
		case 7:
			r.reports(10, errRefused)
		default:
			o := orders[random.IntN(len(orders))]
			m.level, m.direct = r.Level(), r.Direct()
			if o != m.order {
				m.order = o
				r.Override(o, "ann", "")
			}
		}
		r.pass(0)
		if op > 7 {
			level, direct := m.expect(r.Status().Breaker)
			require.Equal(t, level, r.Level(), "an order acts at once, step %d", step)
			require.Equal(t, direct, r.Direct())
		}
		wait(1 + random.IntN(8)*random.IntN(5))
		breaker := r.Status().Breaker
		level, direct := m.expect(breaker)
		require.Equal(t, level, r.Level(), "step %d, op %d, breaker %s, order %q, journal %+v", step, op, breaker, m.order, said)
		require.Equal(t, direct, r.Direct(), "step %d", step)
		visited[level] = true
	}
	require.Len(t, visited, 4, "a walk that does not see all levels proves little")
	at := report.LevelNormal
	for i, c := range r.Changes(0) {
		require.Equal(t, int64(i+1), c.Seq)
		require.Equal(t, at, c.From)
		require.NotEmpty(t, c.Reason)
		require.True(t, c.From != c.To || c.Reason[:8] == "override", c.Reason)
		at = c.To
	}
	require.Equal(t, at, r.Level())
}
