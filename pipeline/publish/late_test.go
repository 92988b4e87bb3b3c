package publish_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/publish"
	"millrace/pipeline/publish/publishtest"
	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

// lateCase is how a revision is published that two closers have drafted: one of them froze before a
// command to Redis, and the other one has taken the slot over.
type lateCase struct {
	sink    string // result topic, "" for none
	plain   bool   // Redis holds plain rows
	large   bool   // changes and contents are too large for one call
	differs bool   // the revision is a difference to the one before, else it is whole
}

func (c lateCase) String() string {
	form := "whole"
	if c.differs {
		form = "difference"
	}
	return fmt.Sprintf("sink %q, plain %t, large %t, %s", c.sink, c.plain, c.large, form)
}

// drafted are the contents of the two closers. The second has read more.
func (c lateCase) drafted() (base, first, second rows) {
	base = someRows(40)
	value := func(n int) string { return fmt.Sprintf(`{"n":%d}`, n) }
	if c.large {
		value = func(n int) string { return fmt.Sprintf(`"%d%s"`, n, strings.Repeat("v", 600<<10)) }
	}
	if c.large && !c.differs {
		for i := range 8 { // more than is held: it goes out as it comes
			base[fmt.Sprintf(`{"large":%d}`, i)] = value(0)
		}
	}
	first, second = maps.Clone(base), maps.Clone(base)
	first[`{"k":7}`] = value(2)
	second[`{"k":7}`], second[`{"k":8}`] = value(3), value(4)
	return base, first, second
}

// mortalKafka lets a closer that is dead take no slot over.
type mortalKafka struct {
	*publishtest.Kafka
	dead *atomic.Bool
}

func (k mortalKafka) Open(ctx context.Context, slot int) (publish.Producer, error) {
	if k.dead.Load() {
		return nil, publishtest.ErrInjected
	}
	return k.Kafka.Open(ctx, slot)
}

func (k mortalKafka) OpenLong(ctx context.Context, slot int) (publish.Producer, error) {
	return k.Open(ctx, slot)
}

// gated is a closer of its own process: before is asked before each command to Redis, counted from 1,
// and reports whether the command goes out.
func (d *desk) gated(dead *atomic.Bool, before func(n int)) *publish.Slot {
	client := storetest.Client(d.t, d.redis.Addr(), false)
	faults := storetest.NewFaults(storetest.Client(d.t, d.redis.Addr(), false))
	client.AddHook(faults)
	n := 0 // a closer sends one command at a time, but for the pages that go out beside a transaction
	var at atomic.Int64
	faults.Gate(func(context.Context, storetest.Op) { before(int(at.Add(1))) })
	faults.Plan(func(storetest.Op) storetest.Outcome {
		if n++; dead.Load() {
			return storetest.FailBefore
		}
		return storetest.Pass
	})
	s := publish.New(publish.Config{
		Pipeline: "p", Families: []string{"hour"}, Spec: "v", Kafka: mortalKafka{d.kafka, dead}, State: store.New(client),
		Keep: d.keep, Now: func() time.Time { return d.now }, PlainRows: d.plain,
	})
	d.t.Cleanup(s.Close)
	return s
}

// tryPublish publishes a revision of window 1 and shows it.
func (d *desk) tryPublish(s *publish.Slot, c publish.Content) error {
	return s.Do(func(h *publish.Held) error {
		_, err := h.Publish(d.t.Context(), d.draft(h, 1, false), c)
		return errors.Join(err, h.ShowRows(d.t.Context()))
	})
}

// lateCall lets one closer freeze before its n-th command to Redis, and thaw before the m-th one of a
// closer that has taken the slot over. It dies after that command, or lives on. reached is false
// where it has not that many commands, or the other one has not.
func (c lateCase) lateCall(t *testing.T, n, m int, dies bool) (reachedN, reachedM bool) {
	d := newDesk(t)
	d.sink, d.plain = c.sink, c.plain
	base, first, second := c.drafted()
	content := func(now rows) *content {
		if c.differs {
			return &content{rows: now, touched: []string{`{"k":7}`, `{"k":8}`}}
		}
		return &content{rows: now}
	}
	if c.differs {
		d.publish(d.slot(), 1, false, base)
	}
	frozen, thawed, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	deadA, deadB := new(atomic.Bool), new(atomic.Bool)
	a := d.gated(deadA, func(at int) {
		switch {
		case at == n:
			close(frozen)
			<-thawed
		case at > n && dies:
			deadA.Store(true)
		}
	})
	go func() {
		defer close(done)
		_ = d.tryPublish(a, content(first))
	}()
	select {
	case <-frozen:
	case <-done:
		return false, false
	}
	thaw := func() {
		if !reachedM {
			reachedM = true
			close(thawed)
			<-done
		}
	}
	b := d.gated(deadB, func(at int) {
		if at == m {
			thaw()
		}
	})
	_ = d.tryPublish(b, content(second))
	beforeEnd := reachedM
	thaw()

	text := fmt.Sprintf("%s: frozen before command %d, thawed before command %d of the other, dies %t", c, n, m, dies)
	require.NoError(t, d.slot().ShowRows(t.Context(), true, true), text)
	latest := d.latest(1)
	require.NotNil(t, latest, text)
	want := base
	for _, made := range []rows{first, second} {
		if sum, keys := made.sum(); sum == latest.Checksum && keys == latest.Keys {
			want = made
		}
	}
	found, err := d.contents().InView(t.Context(), latest)
	require.NoError(t, err, text)
	// Whoever shows a difference that a dead closer has published finds it in the result topic alone.
	shown := found.Missing == "" || !c.differs || c.sink == "" || !dies || latest.Revision == 1
	if c.sink != "" {
		require.Equal(t, want, d.readLinks(latest), text)
	}
	if shown {
		require.Empty(t, found.Missing, text)
		require.Equal(t, want, asRows(found.Rows), text)
	} else {
		require.True(t, found.Expired, text)
		require.Equal(t, first, want, text)
	}
	if d.plain && shown {
		revision, plain := d.plainRows()
		require.Equal(t, latest.Revision, revision, text)
		require.Equal(t, want, plain, text)
	}
	for _, key := range d.redis.Keys() {
		if shown := regexp.MustCompile(`}:(ledger|rows|v:\d+)$`); !shown.MatchString(key) {
			require.Positive(t, d.redis.TTL(key), "%s: %s", text, key)
		}
	}
	return true, beforeEnd
}

// Whatever a closer sends to Redis arbitrarily late, when another one drafts, publishes or has published
// the same revision: the view shows the content that the ledger names, and nothing else is left for good.
func TestALateCallLosesNothing(t *testing.T) {
	for _, differs := range []bool{false, true} {
		for _, sink := range []string{"", "out"} {
			for _, plain := range []bool{false, true} {
				for _, large := range []bool{false, true} {
					c := lateCase{sink, plain, large, differs}
					t.Run(c.String(), c.lateCalls)
				}
			}
		}
	}
}

// lateCalls tries every command of the one closer before every command of the other.
func (c lateCase) lateCalls(t *testing.T) {
	calls, others, ends := 1, 1, []bool{true, false} // every how many of them, and whether the one dies
	if c.large && os.Getenv("MILLRACE_TEST_LONG") == "" {
		calls, others, ends = 4, 7, ends[:1] // they are many, and take long
	}
	for _, dies := range ends {
		last, lastOther := 0, 0
		for n, more := 1, true; more; n += calls {
			for m := 1 + n%others; ; m += others {
				reachedN, reachedM := c.lateCall(t, n, m, dies)
				if more = reachedN; reachedN {
					last, lastOther = max(last, n), max(lastOther, m)
				}
				if !reachedM {
					break
				}
			}
		}
		t.Logf("up to command %d, and command %d of the other", last, lastOther)
		require.Greater(t, last, 1)
	}
}
