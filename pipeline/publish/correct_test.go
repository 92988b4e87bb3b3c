package publish_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/store/storetest"
)

var (
	before = rows{`{"k":"a"}`: `{"n":1}`, `{"k":"b"}`: `{"n":2}`, `{"k":"c"}`: `{"n":3}`}
	after  = rows{`{"k":"a"}`: `{"n":9}`, `{"k":"b"}`: "-", `{"k":"c"}`: `{"n":3}`, `{"k":"d"}`: `{"n":4}`}
	other  = rows{`{"k":"a"}`: `{"n":5}`, `{"k":"b"}`: "-", `{"k":"c"}`: "-"}
)

func TestACorrectionReplacesAFinalRevision(t *testing.T) {
	for _, sink := range []string{"out", ""} {
		t.Run("sink "+sink, func(t *testing.T) {
			d := newDesk(t)
			d.sink = sink
			s := d.slot()
			was := d.publish(s, 1, true, before)
			d.pass(time.Minute)
			c := d.correction(was, "x", after)
			done := d.correct(s, c)
			require.Equal(t, publish.VerdictPublished, done.Verdict)

			row := d.latest(1)
			require.Equal(t, done.Row, row)
			require.Equal(t, 2, row.Revision)
			require.Equal(t, ledger.ReasonReplay, row.Reason)
			require.True(t, row.Final && row.Exact)
			require.EqualValues(t, 3, row.Keys, "without the key that has left")
			require.EqualValues(t, 9, row.Events)
			require.Equal(t, d.now.UnixMilli(), row.ClosedAt)
			require.Equal(t, c.Row.Replay, row.Replay)
			require.Empty(t, row.States)
			require.Equal(t, after.without(), d.read(row))
			shown, content := d.view(1)
			require.Equal(t, row, shown)
			require.Equal(t, after.without(), content)
			if sink == "" {
				require.Empty(t, row.Links)
				return
			}
			require.Equal(t, []bool{true, false}, []bool{row.Links[0].Whole, row.Links[1].Whole})
			require.Equal(t, rows{`{"k":"a"}`: `{"n":9}`, `{"k":"b"}`: "-", `{"k":"d"}`: `{"n":4}`}, d.recordsOf(2), "what it changes")
			require.EqualValues(t, 3, row.Changed)
			results, err := ledger.Results(t.Context(), d.kafka, sink, "p")
			require.NoError(t, err)
			found := rows{}
			for _, r := range results {
				found[string(r.Key)] = string(r.Values)
			}
			require.Equal(t, after.without(), found, "for a reader who takes the last revision of every key")
		})
	}
}

func TestACorrectionIsPublishedOnlyOnWhatItWasMadeFor(t *testing.T) {
	for name, c := range map[string]struct {
		between func(d *desk, s *publish.Slot, was *ledger.Row, c *publish.Correction)
		want    publish.Verdict
		history []string
	}{
		"twice": {
			func(d *desk, s *publish.Slot, _ *ledger.Row, c *publish.Correction) { d.correct(s, c) },
			publish.VerdictDone, []string{"r1 watermark", "r2 replay"},
		},
		"twice, in another process": {
			func(d *desk, _ *publish.Slot, _ *ledger.Row, c *publish.Correction) { d.correct(d.slot(), c) },
			publish.VerdictDone, []string{"r1 watermark", "r2 replay"},
		},
		"another replay between": {
			func(d *desk, s *publish.Slot, was *ledger.Row, _ *publish.Correction) {
				d.correct(s, d.correction(was, "y", other))
			},
			publish.VerdictMoved, []string{"r1 watermark", "r2 replay"},
		},
		"another replay between, in another process": {
			func(d *desk, _ *publish.Slot, was *ledger.Row, _ *publish.Correction) {
				d.correct(d.slot(), d.correction(was, "y", other))
			},
			publish.VerdictMoved, []string{"r1 watermark", "r2 replay"},
		},
		"another diff of the same replay between": {
			func(d *desk, s *publish.Slot, was *ledger.Row, _ *publish.Correction) {
				d.correct(s, d.correction(was, "x", other))
			},
			publish.VerdictMoved, []string{"r1 watermark", "r2 replay"},
		},
		"the base has another checksum": {
			func(_ *desk, _ *publish.Slot, _ *ledger.Row, c *publish.Correction) { c.BaseChecksum = "00" },
			publish.VerdictMoved, []string{"r1 watermark"},
		},
		"nothing differs": {
			func(_ *desk, _ *publish.Slot, was *ledger.Row, c *publish.Correction) {
				c.Checksum, c.Keys = was.Checksum, was.Keys
			},
			publish.VerdictUnchanged, []string{"r1 watermark"},
		},
		"nothing differs, as its content shows": {
			func(_ *desk, _ *publish.Slot, _ *ledger.Row, c *publish.Correction) {
				c.Checksum, c.Keys = "", 0
				c.Content = publish.NewPatch(7, nil)
			},
			publish.VerdictUnchanged, []string{"r1 watermark"},
		},
		"nothing differs in all rows": {
			func(_ *desk, _ *publish.Slot, _ *ledger.Row, c *publish.Correction) {
				c.Checksum, c.Keys = "", 0
				c.Content = before.inOrder(false)
			},
			publish.VerdictUnchanged, []string{"r1 watermark"},
		},
		"no row was expected": {
			func(_ *desk, _ *publish.Slot, _ *ledger.Row, c *publish.Correction) {
				c.BaseRevision, c.BaseChecksum = 0, ""
			},
			publish.VerdictMoved, []string{"r1 watermark"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			s := d.slot()
			was := d.publish(s, 1, true, before)
			correction := d.correction(was, "x", after)
			c.between(d, s, was, correction)
			done := d.correct(s, correction)
			require.Equal(t, c.want, done.Verdict)
			require.Equal(t, d.latest(1), done.Row)
			require.Equal(t, c.history, d.history(1))
		})
	}
}

func TestACorrectionWaitsForLanes(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	was := d.publish(s, 1, false, before)
	require.Equal(t, publish.VerdictOpen, d.correct(s, d.correction(was, "x", after)).Verdict)
	late := d.publish(s, 1, true, other.without())
	require.Equal(t, publish.VerdictMoved, d.correct(s, d.correction(was, "x", after)).Verdict)
	require.Equal(t, publish.VerdictPublished, d.correct(s, d.correction(late, "x", after)).Verdict)
}

func TestACorrectionOfAWindowWithoutARow(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	c := d.correction(&ledger.Row{Start: hour}, "x", before)
	require.Equal(t, publish.VerdictOpen, d.correct(s, c).Verdict, "a closer may still publish it")
	d.raiseFloors(s, 2*hour)
	require.Equal(t, publish.VerdictPublished, d.correct(s, c).Verdict)
	require.Equal(t, publish.VerdictDone, d.correct(s, c).Verdict)
	require.Equal(t, []string{"r1 replay"}, d.history(1))
	require.Equal(t, publish.VerdictMoved, d.correct(s, d.correction(&ledger.Row{Start: hour, Revision: 1}, "y", after)).Verdict)
}

// Content that is not the one approved is not published, whoever made it.
func TestACorrectionChecksItsContent(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	was := d.publish(s, 1, true, before)
	c := d.correction(was, "x", after)
	for _, content := range []publish.Content{
		other.inOrder(false), publish.NewPatch(9, before.changesTo(other.without(), false)), publish.NewPatch(9, other.without().changesTo(after, false)),
	} {
		c.Content = content
		_, err := d.tryCorrect(s, c)
		require.ErrorIs(t, err, publish.ErrWrongContent)
	}
	c.Content = publish.InOrder{Rows: func(_ context.Context, emit func(ledger.Content) error) (int64, error) {
		return 9, errors.Join(emit(ledger.Content{Key: []byte("2")}), emit(ledger.Content{Key: []byte("1")}))
	}}
	_, err := d.tryCorrect(s, c)
	require.ErrorContains(t, err, "key 1 follows 2")
	require.Equal(t, []string{"r1 watermark"}, d.history(1))
	done := d.correct(s, d.correction(was, "x", after))
	require.Equal(t, publish.VerdictPublished, done.Verdict, "what was written of it counts for nothing")
}

// What an attempt has written to Redis that never committed counts for nothing, whoever made it.
func TestWhatADeadAttemptWroteCountsForNothing(t *testing.T) {
	replay := func(id string, content rows) func(d *desk, was *ledger.Row) {
		return func(d *desk, was *ledger.Row) {
			_, err := d.tryCorrect(d.slot(), d.correction(was, id, content))
			require.ErrorIs(d.t, err, publishtest.ErrInjected)
		}
	}
	lanes := func(d *desk, _ *ledger.Row) { // as a closer does that has not seen that revision 1 is final
		require.ErrorIs(d.t, d.slot().Do(func(h *publish.Held) error {
			draft := d.draft(h, 1, false)
			require.Equal(d.t, 2, draft.Row.Revision)
			_, err := h.Publish(d.t.Context(), draft, &content{rows: other.without()})
			return err
		}), publishtest.ErrInjected)
	}
	for name, attempt := range map[string]func(d *desk, was *ledger.Row){
		"the same correction": replay("x", after),
		"another replay":      replay("y", other),
		"lanes":               lanes,
		"nobody":              func(*desk, *ledger.Row) {},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			was := d.publish(d.slot(), 1, true, before)
			d.kafka.Plan(func(s publishtest.Step) publishtest.Outcome {
				if s.Name == "begin" {
					return publishtest.FailBefore
				}
				return publishtest.Pass
			})
			attempt(d, was)
			d.kafka.Plan(nil)
			d.pass(time.Minute)
			_, shown := d.view(1)
			require.Equal(t, before, shown)

			correction := d.correction(was, "x", after)
			require.Equal(t, publish.VerdictPublished, d.correct(d.slot(), correction).Verdict)
			require.Equal(t, after.without(), d.read(d.latest(1)))
			require.Equal(t, correction.Row.Replay, d.latest(1).Replay)
			_, shown = d.view(1)
			require.Equal(t, after.without(), shown)
			require.Equal(t, []string{"r1 watermark", "r2 replay"}, d.history(1))
		})
	}
}

// A closer takes over in the middle of a correction, at every request to Kafka and every write to Redis, and the other one goes
// on where it was stopped. Whatever happens, the correction is published once.
func TestACorrectionIsCarriedOnByAnotherCloser(t *testing.T) {
	setup := func(t testing.TB) (*desk, *publish.Slot, *publish.Correction) {
		d := newDesk(t)
		s := d.slot()
		return d, s, d.correction(d.publish(s, 1, true, before), "x", after)
	}
	d, s, c := setup(t)
	steps := 0
	d.each(func() { steps++ })
	d.correct(s, c)
	require.Greater(t, steps, 7)
	for _, how := range []string{"taken over", "dies before", "dies after"} {
		for at := range steps {
			t.Run(fmt.Sprintf("%s %d", how, at), func(t *testing.T) {
				d, s, c := setup(t)
				n := 0
				next := func() (storetest.Outcome, bool) { // whether this is the step
					defer func() { n++ }()
					switch {
					case n < at || how == "taken over":
						return storetest.Pass, n == at
					case n == at && how == "dies after":
						return storetest.FailAfter, true
					}
					return storetest.FailBefore, n == at
				}
				overtake := func() {
					if how == "taken over" {
						d.each(nil)
						d.correct(d.slot(), c)
					}
				}
				d.kafka.Plan(func(publishtest.Step) publishtest.Outcome {
					outcome, now := next()
					if now {
						overtake()
					}
					return publishtest.Outcome(outcome)
				})
				d.faults.Gate(func(_ context.Context, op storetest.Op) {
					if op.Write() && how == "taken over" {
						if _, now := next(); now {
							overtake()
						}
					}
				})
				if how != "taken over" {
					d.faults.Plan(func(op storetest.Op) storetest.Outcome {
						if !op.Write() {
							return storetest.Pass
						}
						outcome, _ := next()
						return outcome
					})
				}
				_, _ = d.tryCorrect(s, c)
				d.each(nil)
				done := d.correct(s, c)
				require.Contains(t, []publish.Verdict{publish.VerdictDone, publish.VerdictPublished}, done.Verdict)
				done = d.correct(d.slot(), c)
				require.Equal(t, publish.VerdictDone, done.Verdict)
				require.Equal(t, []string{"r1 watermark", "r2 replay"}, d.history(1))
				require.Equal(t, after.without(), d.read(d.latest(1)))
				shown, content := d.view(1)
				require.Equal(t, d.latest(1), shown)
				require.Equal(t, after.without(), content)
			})
		}
	}
}

// each calls fn before every request to Kafka and every write to Redis.
func (d *desk) each(fn func()) {
	if fn == nil {
		d.kafka.Plan(nil)
		d.faults.Plan(nil)
		d.faults.Gate(nil)
		return
	}
	d.kafka.Plan(func(publishtest.Step) publishtest.Outcome { fn(); return publishtest.Pass })
	d.faults.Gate(func(_ context.Context, op storetest.Op) {
		if op.Write() {
			fn()
		}
	})
}

// A reader that polls at every step of a correction finds the old content or the new one, in Kafka and in Redis.
func TestReadersSeeOldOrNewContent(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	c := d.correction(d.publish(s, 1, true, before), "x", after)
	old, corrected, looking := 0, 0, false
	look := func() {
		if looking {
			return
		}
		looking = true
		defer func() { looking = false }()
		row := d.latest(1)
		shown, content := d.view(1)
		require.NotNil(t, shown)
		require.LessOrEqual(t, shown.Revision, row.Revision)
		for _, found := range []rows{d.read(row), content} {
			if _, isOld := found[`{"k":"b"}`]; isOld {
				old++
				require.Equal(t, before, found)
				continue
			}
			corrected++
			require.Equal(t, after.without(), found)
		}
	}
	d.each(look)
	d.correct(s, c)
	look()
	d.each(nil)
	require.Greater(t, old, 10)
	require.Greater(t, corrected, 1)
}

// A window at and below its floor, whose view has expired and whose row the slot has forgotten, is corrected like any other,
// and what is kept of it counts from then on.
func TestACorrectionBelowTheFloor(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	was := d.publish(s, 1, true, before)
	d.raiseFloors(s, 2*hour)
	d.pass(59 * time.Minute)
	shown, _ := d.view(1)
	require.NotNil(t, shown)
	d.pass(time.Minute)
	shown, _ = d.view(1)
	require.Nil(t, shown, "it has expired")

	c := d.correction(was, "x", after)
	require.Equal(t, publish.VerdictPublished, d.correct(s, c).Verdict)
	d.pass(59 * time.Minute)
	d.raiseFloors(s, 9*hour)
	_, err := s.Sweep(t.Context())
	require.NoError(t, err)
	shown, content := d.view(1)
	require.Equal(t, 2, shown.Revision)
	require.Equal(t, after.without(), content)
	require.Equal(t, publish.VerdictDone, d.correct(s, c).Verdict)

	d.pass(2 * time.Minute)
	d.raiseFloors(s, 9*hour)
	require.Nil(t, d.latest(1), "its row was given up an hour after the correction")
	shown, _ = d.view(1)
	require.Nil(t, shown)
	done := d.correct(s, c)
	require.Equal(t, publish.VerdictMoved, done.Verdict)
	require.Nil(t, done.Row)
}

// A pipeline of the same name that began anew is not corrected by what was approved for the one before.
func TestACorrectionOfAnEarlierEdition(t *testing.T) {
	for _, begun := range []bool{false, true} {
		t.Run(fmt.Sprintf("begun %t", begun), func(t *testing.T) {
			d := newDesk(t)
			frozen := d.slot()
			c := d.correction(d.publish(frozen, 1, true, before), "x", after)
			require.NoError(t, publish.EndIncarnation(t.Context(), d.kafka, "p", true, func(int64) {}))
			if begun {
				next := d.slot()
				require.NoError(t, next.ShowRows(t.Context(), false, true))
				require.NoError(t, next.Do(func(h *publish.Held) error {
					draft := d.draft(h, 1, true)
					draft.Row.Edition = h.Edition()
					_, err := h.Publish(t.Context(), draft, &content{rows: before})
					return err
				}))
			}
			require.Equal(t, publish.VerdictMoved, d.correct(frozen, c).Verdict, "although its base looks the same")
		})
	}
}

func TestTheLatestRowIsAmended(t *testing.T) {
	d := newDesk(t)
	s := d.slot()
	was := d.publish(s, 1, true, before)
	row := d.correct(s, d.correction(was, "x", after)).Row
	archived := &ledger.Archive{File: "hour/1.parquet", SHA256: "ab", Bytes: 7, At: base}
	archive := func(r *ledger.Row) bool {
		if r.Archive != nil && *r.Archive == *archived {
			return false
		}
		r.Archive = archived
		return true
	}
	amend := func(s *publish.Slot, row *ledger.Row) (done publish.Corrected) {
		require.NoError(t, s.Do(func(h *publish.Held) (err error) {
			if done, err = h.AmendLatest(t.Context(), row.ID(), row.Revision, row.Checksum, archive); err != nil {
				return err
			}
			return h.ShowRows(t.Context())
		}))
		return done
	}
	require.Equal(t, publish.VerdictMoved, amend(s, was).Verdict)
	d.pass(time.Minute)
	require.Equal(t, publish.VerdictPublished, amend(s, row).Verdict)
	require.Equal(t, publish.VerdictDone, amend(d.slot(), row).Verdict)
	want := *row
	want.Archive = archived
	require.Equal(t, &want, d.latest(1), "all else is kept")
	shown, _ := d.view(1)
	require.Equal(t, &want, shown)
	require.Equal(t, []string{"r1 watermark", "r2 replay", "r2 replay"}, d.history(1))
}

// What another closer says of the latest row meanwhile is kept: it has the same number and time.
func TestWhatAnotherCloserHasSaidOfARowIsKept(t *testing.T) {
	d := newDesk(t)
	s, other := d.slot(), d.slot()
	row := d.publish(s, 1, true, someRows(5))
	say := func(s *publish.Slot, change func(*ledger.Row) bool) (publish.Corrected, error) {
		var made publish.Corrected
		err := s.Do(func(h *publish.Held) (err error) {
			made, err = h.AmendLatest(t.Context(), row.ID(), 1, row.Checksum, change)
			return err
		})
		return made, err
	}
	_, err := say(s, func(r *ledger.Row) bool {
		made, err := say(other, func(r *ledger.Row) bool { r.Mends = "first"; return true })
		require.NoError(t, err)
		require.Equal(t, publish.VerdictPublished, made.Verdict)
		r.Archive = &ledger.Archive{}
		return true
	})
	require.ErrorIs(t, err, publish.ErrFenced)
	require.Equal(t, "first", d.latest(1).Mends)
}
