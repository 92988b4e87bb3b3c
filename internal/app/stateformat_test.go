package app

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/connect"
	"millrace/internal/contract"
	"millrace/pipeline/store"
)

// joinOld starts a process of a release that knows nothing of state pages: its body says nothing of formats.
func (p *parish) joinOld(name string) {
	v := view{p, "q-" + name}
	ctx, cancel := context.WithCancel(context.Background())
	p.stops[name] = cancel
	p.running.Go(func() {
		me := store.Present{ID: v.queue, Version: 1}
		for ctx.Err() == nil {
			me.Beat++
			if _, err := v.Beat(ctx, "default", me, fmt.Appendf(nil, `{"worker":%q,"ready":true}`, name)); err != nil && !errors.Is(err, errAway) {
				p.t.Error(err)
			}
			select {
			case <-time.After(contract.PresenceEvery):
			case <-ctx.Done():
				_ = v.Leave(ctx, "default", v.queue)
			}
		}
	})
}

func (p *parish) keepFields(name string) string { return p.formats[name].keepFields() }

// A process alone, and a fleet in which everybody reads pages, keep nobody waiting.
func TestFleetThatReadsPages(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a")
		pass(0)
		require.Empty(t, p.keepFields("a"))
		p.join("b")
		pass(contract.PresenceEvery)
		require.Empty(t, p.keepFields("a"))
		require.Empty(t, p.keepFields("b"))
	})
}

// A worker of an older release keeps all others from pages for as long as it is there, and for a while longer.
func TestOldWorkerHoldsPagesBack(t *testing.T) {
	for how, leave := range map[string]func(p *parish){
		"it ends":   func(p *parish) { p.stops["old"]() },
		"it is cut": func(p *parish) { p.kill("old") },
	} {
		t.Run(how, func(t *testing.T) {
			inParish(t, func(p *parish) {
				p.joinOld("old")
				pass(time.Second)
				p.join("a")
				p.join("b")
				for range 120 {
					pass(contract.PresenceEvery)
					for _, name := range []string{"a", "b"} {
						require.Equal(t, "worker old reads state format 1, and pages are format 2", p.keepFields(name))
					}
				}
				leave(p)
				pass(contract.GoneAfter - time.Millisecond)
				require.NotEmpty(t, p.keepFields("a"), "it may just have missed some beats")
				pass(contract.FormatSettles - 2*contract.GoneAfter)
				require.Contains(t, p.keepFields("a"), "less than 30s ago", "it may be starting again")
				pass(3 * contract.GoneAfter)
				require.Empty(t, p.keepFields("a"))
				require.Empty(t, p.keepFields("b"))
			})
		})
	}
}

// One that comes late, or back, holds back whatever has not turned.
func TestOldWorkerComesLate(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a")
		pass(time.Minute)
		require.Empty(t, p.keepFields("a"))
		p.joinOld("old")
		pass(2 * contract.PresenceEvery)
		require.Contains(t, p.keepFields("a"), "worker old reads")
	})
}

// One that comes when the old one has just gone learns of it from those that saw it, and does not learn it from those that
// have only heard of it.
func TestOldWorkerThatHasGoneIsToldOf(t *testing.T) {
	inParish(t, func(p *parish) {
		p.joinOld("old")
		p.join("a")
		pass(time.Second)
		p.stops["old"]()
		pass(2 * contract.PresenceEvery)
		p.join("b")
		pass(2 * contract.PresenceEvery)
		require.Equal(t, "worker a saw one that did not read pages less than 30s ago", p.keepFields("b"))
		p.join("c")
		pass(contract.FormatSettles - 6*contract.PresenceEvery)
		require.NotEmpty(t, p.keepFields("c"))
		pass(4 * contract.PresenceEvery)
		for _, name := range []string{"a", "b", "c"} {
			require.Empty(t, p.keepFields(name), name)
		}
	})
}

// What was learnt of an old one outlives those that told of it: when they go, too, it may still be starting again.
func TestOldWorkerThatHasGoneIsRemembered(t *testing.T) {
	for how, leave := range map[string]func(p *parish){
		"who told ends":   func(p *parish) { p.stops["a"]() },
		"who told is cut": func(p *parish) { p.kill("a") },
	} {
		t.Run(how, func(t *testing.T) {
			inParish(t, func(p *parish) {
				p.joinOld("old")
				p.join("a")
				pass(time.Second)
				p.stops["old"]()
				pass(2 * contract.PresenceEvery)
				p.join("b")
				pass(2 * contract.PresenceEvery)
				require.Contains(t, p.keepFields("b"), "worker a saw one")
				leave(p)
				for range (contract.FormatSettles - time.Second) / contract.PresenceEvery {
					pass(contract.PresenceEvery)
					require.NotEmpty(t, p.keepFields("b"))
				}
				pass(3 * contract.GoneAfter)
				require.Empty(t, p.keepFields("b"))
			})
		})
	}
}

// Whoever hears nothing of the fleet knows nothing of who has joined it.
func TestNothingHeardHoldsPagesBack(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a")
		pass(5 * time.Second)
		require.Empty(t, p.keepFields("a"))
		p.redis(true)
		pass(contract.PresenceEvery)
		require.Empty(t, p.keepFields("a"), "one beat may fail")
		pass(time.Second)
		require.Contains(t, p.keepFields("a"), "hears nothing")
		p.redis(false)
		pass(2 * contract.PresenceEvery)
		require.Empty(t, p.keepFields("a"))
	})
}

// A process whose body cannot be read may be of any release.
func TestUnknownBodyHoldsPagesBack(t *testing.T) {
	w := newFleetWatch("q0")
	now := time.Now()
	all := []store.Present{{ID: "q0", Beat: 1}, {ID: "q1", Beat: 1}}
	require.Len(t, w.see(now, all), 2)
	w.learn("q0", member{Worker: "a", State: store.PageFormat})
	require.Equal(t, "worker q1 has not said yet which state formats it reads", w.keepsFields(now))
	w.learn("q1", member{Worker: "b", State: store.PageFormat + 1})
	require.Empty(t, w.keepsFields(now), "a newer release reads what this one does")
}

func TestSettingOfTheStateFormat(t *testing.T) {
	for setting, want := range map[string]string{
		"":                  "this worker has heard nothing of its fleet yet",
		connect.StateAuto:   "this worker has heard nothing of its fleet yet",
		connect.StateFields: "the setting worker.state_format of worker w1 is fields",
		connect.StatePages:  "",
	} {
		p := process{cfg: Config{StateFormat: setting, Temporal: TemporalConfig{Worker: "w1"}}}
		p.presence = newPresence(nil, nil, "default", "q", "w1", false, quiet)
		require.Equal(t, want, p.keepFields()(), setting)
	}
}
