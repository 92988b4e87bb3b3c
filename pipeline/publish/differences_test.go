package publish_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/store/storetest"
)

// states are the states of a row's content as a reader finds them who has nothing but the ledger and the states topic.
func (d *desk) states(row *ledger.Row) rows {
	d.t.Helper()
	found := rows{}
	require.NoError(d.t, d.contents().EachState(d.t.Context(), row, func(key, state []byte) error {
		require.NotContains(d.t, found, string(key))
		found[string(key)] = string(state)
		return nil
	}))
	return found
}

// stateRecords are the keys of which the states topic has a record of a revision.
func (d *desk) stateRecords(row *ledger.Row) int {
	d.t.Helper()
	n := 0
	for _, span := range row.States[len(row.States)-1].Partitions {
		n += int(span.Last - span.First + 1)
	}
	return n
}

// withS are the states of rows.
func (r rows) withS() rows {
	out := rows{}
	for key, values := range r {
		out[key] = "s" + values
	}
	return out
}

// TestACorrectionPublishesItsKeys: of many keys one is corrected, whatever the view was made from.
func TestACorrectionPublishesItsKeys(t *testing.T) {
	for name, lose := range map[string]func(d *desk){
		"view proved":  func(*desk) {},
		"view expired": func(d *desk) { d.pass(time.Hour) },
		"view lost":    func(d *desk) { d.redis.FlushAll() },
		"view damaged": func(d *desk) { d.damageView(rand.New(rand.NewPCG(1, 1))) },
	} {
		for _, states := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, states %t", name, states), func(t *testing.T) {
				d := newDesk(t)
				s := d.slot()
				all := someRows(2000)
				was := d.publishContent(s, 1, true, &content{rows: all, states: states})
				lose(d)
				now := maps.Clone(all)
				now[`{"k":7}`] = `{"n":2}`
				row := d.correct(s, d.correctionOf(was, "x", now, states)).Row
				require.Equal(t, rows{`{"k":7}`: `{"n":2}`}, d.recordsOf(2))
				require.Equal(t, []int64{2000, 1}, []int64{row.Keys, row.Changed})
				require.Equal(t, now, d.readLinks(row))
				if name != "view damaged" { // a page that is not compared stays as it is
					_, shown := d.view(1)
					require.Equal(t, now, shown)
				}
				if states {
					require.Equal(t, 1, d.stateRecords(row))
					require.Equal(t, now.withS(), d.states(row))
				}
			})
		}
	}
}

// TestWhatMakesACorrectionWhole: nothing may be read together with what it is not sure to fit to, or to outlive.
func TestWhatMakesACorrectionWhole(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(d *desk, c *publish.Correction, now rows)
		whole bool
	}{
		"nothing":                {func(*desk, *publish.Correction, rows) {}, false},
		"older releases":         {func(d *desk, _ *publish.Correction, _ rows) { d.whole = "worker w reads state format 1" }, true},
		"another result topic":   {func(_ *desk, c *publish.Correction, _ rows) { c.Topics.Results = "second" }, true},
		"another states topic":   {func(_ *desk, c *publish.Correction, _ rows) { c.Topics.States = "second" }, true},
		"a topic that keeps all": {func(d *desk, _ *publish.Correction, _ rows) { d.kafka.SetTopicSetting("out", "retention.ms", "-1") }, false},
		"a topic that keeps enough": {func(d *desk, _ *publish.Correction, _ rows) {
			d.kafka.SetTopicSetting("out", "retention.ms", fmt.Sprint((90 * time.Minute).Milliseconds()))
		}, false},
		"a topic that keeps too little": {func(d *desk, _ *publish.Correction, _ rows) {
			d.kafka.SetTopicSetting("out", "retention.ms", fmt.Sprint((90*time.Minute).Milliseconds()-1))
		}, true},
		"states that are kept long enough": {func(d *desk, _ *publish.Correction, _ rows) {
			d.kafka.SetTopicSetting("p.states", "retention.ms", fmt.Sprint((90 * time.Minute).Milliseconds()))
		}, false},
		"states that are not kept until the row is given up": {func(d *desk, _ *publish.Correction, _ rows) {
			d.kafka.SetTopicSetting("p.states", "retention.ms", fmt.Sprint((90*time.Minute).Milliseconds()-1))
		}, true},
		"what mends": {func(_ *desk, c *publish.Correction, now rows) { c.Again, c.Content = true, now.inOrder(true) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			s := d.slot()
			all := someRows(500)
			was := d.publishContent(s, 1, true, &content{rows: all, states: true})
			d.pass(30 * time.Minute)
			now := maps.Clone(all)
			now[`{"k":7}`] = `{"n":2}`
			delete(now, `{"k":8}`)
			correction := d.correctionOf(was, "x", now, true)
			c.spoil(d, correction, now)
			row := d.correct(s, correction).Row
			require.Equal(t, []bool{c.whole, c.whole}, []bool{len(row.Links) == 1, len(row.States) == 1})
			require.Equal(t, c.whole, row.Changed == 0)
			if name != "what mends" {
				require.Equal(t, "-", d.recordsOf(2)[`{"k":8}`], "its readers learn of it")
			}
			require.Equal(t, now, d.readLinks(row))
			require.Equal(t, now.withS(), d.states(row))
			_, shown := d.view(1)
			require.Equal(t, now, shown)
		})
	}
}

// TestTheFirstRowsDecideWhatIsOutlived: a window that was empty at first has its rows in a later link.
func TestTheFirstRowsDecideWhatIsOutlived(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	was := d.publish(s, 1, true, rows{})
	was = d.correct(s, d.correction(was, "x", someRows(3))).Row
	require.Len(t, was.Links, 2)
	d.pass(30 * time.Minute)
	d.kafka.SetTopicSetting("out", "retention.ms", fmt.Sprint((90*time.Minute).Milliseconds()-1))
	require.Len(t, d.correct(s, d.correction(was, "y", someRows(4))).Row.Links, 1)
}

// TestAnExpiringBaseIsNotBuiltOn: nothing but Redis has the content of a pipeline without a result topic. What a correction
// changes in a content that expires before anybody shows it would be lost with that.
func TestAnExpiringBaseIsNotBuiltOn(t *testing.T) {
	for _, tt := range []struct {
		age   time.Duration
		whole bool
	}{{30 * time.Minute, false}, {50 * time.Minute, true}} {
		t.Run(tt.age.String(), func(t *testing.T) {
			d := newDesk(t)
			d.sink = ""
			was := d.publish(d.slot(), 1, true, someRows(300))
			d.pass(tt.age)
			now := maps.Clone(someRows(300))
			now[`{"k":7}`] = `{"n":2}`
			d.faults.Plan(func(op storetest.Op) storetest.Outcome {
				if slices.Contains(op.Args, "mr:{p/hour/3600000}:v:drafts") && slices.Contains(op.Args, "mr:{p/hour/3600000}:rows") {
					return storetest.FailBefore // it dies before it shows the revision
				}
				return storetest.Pass
			})
			_, err := d.tryCorrect(d.slot(), d.correction(was, "x", now))
			require.ErrorIs(t, err, storetest.ErrInjected)
			d.faults.Plan(nil)
			d.pass(time.Hour - tt.age - time.Minute)
			if tt.whole {
				d.pass(2 * time.Minute)
			}
			require.NoError(t, d.slot().ShowRows(t.Context(), true, true))
			row, shown := d.view(1)
			require.Equal(t, []any{2, tt.whole}, []any{row.Revision, row.View.Whole == 2})
			require.Equal(t, now, shown)
		})
	}
}

// TestLanesThatWerePausedBuildOnNothingThatGoes: a late event may come to a window that was published long ago, when lanes were
// paused or quiet in between.
func TestLanesThatWerePausedBuildOnNothingThatGoes(t *testing.T) {
	for name, tt := range map[string]struct {
		after, results, states time.Duration // 0: for ever
		links                  int
	}{
		"not for long":                       {59 * time.Minute, time.Hour, time.Hour, 2},
		"topics keep enough":                 {2 * time.Hour, 3 * time.Hour, 3 * time.Hour, 2},
		"topics keep all":                    {2 * time.Hour, 0, 0, 2},
		"the result topic keeps less":        {2 * time.Hour, 3*time.Hour - 1, 0, 1},
		"the states topic keeps less":        {2 * time.Hour, 0, 3*time.Hour - 1, 1},
		"the rows of the topic are gone now": {2 * time.Hour, time.Hour, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			for topic, keeps := range map[string]time.Duration{"out": tt.results, "p.states": tt.states} {
				if keeps > 0 {
					d.kafka.SetTopicSetting(topic, "retention.ms", fmt.Sprint(keeps.Milliseconds()))
				}
			}
			s := d.slot()
			now := someRows(300)
			d.publishContent(s, 1, false, &content{rows: now, states: true})
			d.pass(tt.after)
			now = maps.Clone(now)
			now[`{"k":7}`] = `{"n":2}`
			row := d.publishContent(s, 1, false, &content{rows: now, touched: []string{`{"k":7}`}, states: true})
			require.Equal(t, []int{tt.links, tt.links}, []int{len(row.Links), len(row.States)})
			require.Equal(t, now, d.readLinks(row))
			require.Equal(t, now.withS(), d.states(row))
		})
	}
}

// TestStatesThatNoValueShows: a late event may change what is merged into coarser windows and no value. Its state is published
// with the next revision, without the row.
func TestStatesThatNoValueShows(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	now := someRows(300)
	d.publishContent(s, 1, false, &content{rows: now, states: true})
	now = maps.Clone(now)
	now[`{"k":7}`] = `{"n":2}`
	touched := []string{`{"k":7}`, `{"k":8}`}
	row := d.publishContent(s, 1, false, &content{rows: now, touched: touched, states: true, unseen: rows{`{"k":8}`: "|more"}})
	require.Equal(t, rows{`{"k":7}`: `{"n":2}`}, d.recordsOf(2))
	require.EqualValues(t, 1, row.Changed)
	want := now.withS()
	want[`{"k":8}`] += "|more"
	require.Equal(t, want, d.states(row))
	require.Len(t, row.States, 2)
}

// TestPlainRowsStayWhereOnlyStatesChange: such a revision has the rows of the one before.
func TestPlainRowsStayWhereOnlyStatesChange(t *testing.T) {
	d := newDesk(t)
	d.plain = true
	s := d.slot()
	all := someRows(300)
	d.publishContent(s, 1, false, &content{rows: all, states: true})
	d.faults.Plan(func(storetest.Op) storetest.Outcome {
		revision, found := d.plainRows()
		require.Positive(t, revision, "other programs find them at every instant")
		require.Equal(t, all, found)
		return storetest.Pass
	})
	c := &content{rows: all, touched: []string{`{"k":8}`}, states: true, unseen: rows{`{"k":8}`: "|more"}}
	row := d.publishContent(s, 1, false, c)
	require.Equal(t, []int64{2, 0}, []int64{int64(row.Revision), row.Changed})
	revision, found := d.plainRows()
	require.Equal(t, []any{2, all}, []any{revision, found})
}

// Whatever becomes of views and closers between corrections, and whatever makes some of them whole: a reader who has nothing
// but the ledger and the topics finds the content that a naive computation has, and so does one of Redis unless that has lost it.
func TestRandomCorrectionsHoldTheWholeContent(t *testing.T) {
	corrections := 60
	if os.Getenv("MILLRACE_TEST_LONG") != "" {
		corrections = 1500
	}
	for _, states := range []bool{false, true} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("states %t, plain rows %t", states, plain), func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(5, 17))
				d := newDesk(t)
				d.plain = plain
				s := d.slot()
				now := someRows(300)
				before := d.publishContent(s, 1, true, &content{rows: now, states: states})
				damaged, whole, anew := false, 0, 0
				for n := range corrections {
					next, _ := now.change(rnd)
					d.whole = ""
					c := d.correctionOf(before, fmt.Sprintf("x%d", n), next, states)
					switch rnd.IntN(14) {
					case 0:
						d.redis.FlushAll()
						damaged = true
					case 1:
						d.damageView(rnd)
						damaged = true
					case 2:
						d.pass(time.Hour)
						damaged = true
					case 3:
						s = d.slot()
					case 4: // it dies before it shows what it has published
						require.NoError(t, d.slot().Do(func(h *publish.Held) error {
							_, err := h.Correct(t.Context(), c)
							var unread *publish.BaseUnreadError
							if errors.As(err, &unread) {
								return nil
							}
							return err
						}))
						s = d.slot()
					case 5: // Redis fails it somewhere
						calls := rnd.IntN(6)
						d.faults.Plan(func(storetest.Op) storetest.Outcome {
							if calls--; calls < 0 {
								return storetest.FailBefore
							}
							return storetest.Pass
						})
						_, _ = d.tryCorrect(s, c)
						d.faults.Plan(nil)
					case 6:
						d.whole = "a worker of an earlier release is there"
					case 7: // a recount mends it
						c.Again, c.Content = true, next.inOrder(states)
					case 8: // all keys have other values
						next = maps.Clone(next)
						for key := range next {
							next[key] = fmt.Sprintf(`{"n":%d}`, 10+rnd.IntN(5))
						}
						c = d.correctionOf(before, fmt.Sprintf("x%d", n), next, states)
					}
					now = next
					row := d.correct(s, c).Row
					sum, keys := now.sum()
					require.Equal(t, []any{sum, keys}, []any{row.Checksum, row.Keys}, n)
					require.LessOrEqual(t, len(row.Links), 16)
					require.Equal(t, now, d.readLinks(row), n)
					if states {
						require.Equal(t, now.withS(), d.states(row), n)
						require.Len(t, row.States, len(row.Links))
					}
					if row.Revision > before.Revision && row.View != nil && row.View.Whole == row.Revision {
						damaged = false
						anew++
					}
					if row.Revision > before.Revision && len(row.Links) == 1 {
						whole++
					}
					found, err := d.contents().InView(t.Context(), row)
					if !damaged {
						require.NoError(t, err)
						require.Empty(t, found.Missing, n)
						require.Equal(t, now, asRows(found.Rows), n)
						if revision, shown := d.plainRows(); plain {
							require.Equal(t, []any{row.Revision, now}, []any{revision, shown}, n)
						}
					}
					before = row
				}
				t.Logf("%d revisions, %d of them whole, %d views made anew", before.Revision, whole, anew)
				require.Less(t, whole, corrections/2)
				require.Greater(t, anew, whole+5)
			})
		}
	}
}
