package shadow_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/shadow/plan"
	"millrace/tests/long"
)

// TestRecountFindsWhatWasCounted: with the spec of the pipeline every window is equal, whatever the lanes went through.
func TestRecountFindsWhatWasCounted(t *testing.T) {
	for name, windows := range map[string]string{"hourly": hourly, "families": families, "sliding": sliding, "impatient": impatient} {
		t.Run(name, func(t *testing.T) {
			for seed := range long.Seeds(2, 6) {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					text := summing("v", windows)
					w := newWorld(t, seed, text, 3)
					w.live(600)
					p := w.begin(w.ask(plan.AsRead, text))
					require.Greater(t, len(p.Windows), 8, "%v", p.Refused)
					res, err := shadow.Run(w.ctx, w.runConfig())
					require.NoError(t, err)
					content, differ := w.found(p)
					require.Empty(t, differ)
					require.Equal(t, len(p.Windows), res.Equal)
					require.Equal(t, within(p, w.counted(text, plan.AsRead)), content)
				})
			}
		})
	}
}

// TestReplayNamesWhatDiffers: the spec that counts sums another field, which differs in some events of three hours. The
// difference names the windows and keys that the oracle counts differently, with what was and what is.
func TestReplayNamesWhatDiffers(t *testing.T) {
	for name, windows := range map[string]string{"families": families, "sliding": sliding} {
		t.Run(name, func(t *testing.T) {
			for seed := range long.Seeds(2, 4) {
				w := newWorld(t, seed, summing("v", windows), 4)
				w.live(700)
				replayed := summing("v2", windows)
				p := w.begin(w.ask(plan.AsRead, replayed))
				require.False(t, p.SameSpec)
				require.Equal(t, plan.Whole, p.Scope)
				res, err := shadow.Run(w.ctx, w.runConfig())
				require.NoError(t, err)
				content, differ := w.found(p)
				was, is := within(p, w.counted(summing("v", windows), plan.AsRead)), within(p, w.counted(replayed, plan.AsRead))
				require.Equal(t, is, content)
				w.requireDifference(was, is, differ)
				require.NotZero(t, res.Differ)
				require.NotZero(t, res.Equal)
				require.Equal(t, int64(len(differ)), res.Added+res.Changed+res.Removed)
			}
		})
	}
}

// requireDifference holds a difference against two contents.
func (w *world) requireDifference(was, is map[cell]string, differ map[cell]diff.Row) {
	w.t.Helper()
	want := map[cell]string{}
	for c := range was {
		if is[c] != was[c] {
			want[c] = was[c] + " -> " + is[c]
		}
	}
	for c := range is {
		if is[c] != was[c] {
			want[c] = was[c] + " -> " + is[c]
		}
	}
	got := map[cell]string{}
	for c, r := range differ {
		got[c] = string(r.Old) + " -> " + string(r.New)
	}
	require.Equal(w.t, want, got)
}

// TestReplayCountsWhatCameLate: without lateness, and with what the late topic holds, a window has everything that arrived.
func TestReplayCountsWhatCameLate(t *testing.T) {
	for _, lateness := range []plan.Lateness{plan.None, plan.FromLate} {
		for name, windows := range map[string]string{"hourly": hourly, "impatient": impatient, "sliding": sliding} {
			t.Run(string(lateness)+"/"+name, func(t *testing.T) {
				for seed := range long.Seeds(1, 3) {
					text := summing("v", windows)
					w := newWorld(t, seed, text, 3)
					w.live(600)
					p := w.begin(w.ask(lateness, text))
					_, err := shadow.Run(w.ctx, w.runConfig())
					require.NoError(t, err)
					content, differ := w.found(p)
					was, is := within(p, w.counted(text, plan.AsRead)), within(p, w.counted(text, lateness))
					require.Equal(t, is, content)
					w.requireDifference(was, is, differ)
					require.NotEmpty(t, differ)
				}
			})
		}
	}
}
