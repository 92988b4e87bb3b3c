package model

import (
	"context"
	"slices"
	"time"

	"millrace/pipeline/journal"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
)

// claim is the group coordinator as a lane sees it.
type claim struct{ l *laneProc }

func (c claim) Topic() string     { return c.l.id.Topic }
func (c claim) Partition() int32  { return c.l.id.Partition }
func (c claim) Generation() int32 { return 1 }
func (c claim) MemberID() string  { return c.l.name }

func (c claim) StillAssigned(context.Context) (bool, error) {
	return c.l.w.assigned[c.l.p] == c.l || c.l.w.is(stealBack), nil
}

func (c claim) StillMember(ctx context.Context) (bool, error) { return c.StillAssigned(ctx) }

// MarkHint moves the process's mark forwards, which the group's offset is to follow.
func (c claim) MarkHint(offset int64, text string) {
	if offset > c.l.marked.offset {
		c.mark(offset, text)
	}
	c.l.commitHint()
}

// ResetHint sets the mark back, or replaces its metadata.
func (c claim) ResetHint(offset int64, text string) {
	if c.l.acquiring {
		c.l.resumed()
		c.l.told[text] = c.l.rulings
	}
	if offset <= c.l.marked.offset {
		c.mark(offset, text)
	}
	c.l.commitHint()
}

func (c claim) mark(offset int64, text string) {
	c.l.marked, c.l.unheard = hint{offset, text, c.l.told[text]}, true
}

// commitHint lets the group's offset follow the mark, unless the group's coordinator is out of reach: then the mark waits
// for the next one, and is lost with its process. Nor does the coordinator hear a process that it gave the partition away
// from.
func (l *laneProc) commitHint() {
	if w := l.w; l.unheard && w.assigned[l.p] == l && w.coordinates() {
		w.hints[l.p], l.unheard = l.marked, false
	}
}

// coordinates reports whether the group's coordinator can be reached. When it cannot, that lasts.
func (w *World) coordinates() bool {
	if w.faulty(w.weather.group) {
		w.deaf = w.step + w.rng.IntN(w.steps/2)
	}
	return w.calm || w.step >= w.deaf
}

// broker is the log as a lane asks about it.
type broker struct{ l *laneProc }

func (b broker) Ends(_ context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error) {
	ends, err := b.l.w.ends(b.l.p)
	if b.l.trustsHint() {
		ends.Start = b.l.w.hints[b.l.p].offset
	}
	return map[source.TopicPartition]source.Ends{tps[0]: ends}, err
}

func (b broker) Committed(_ context.Context, _ string, tps ...source.TopicPartition) (map[source.TopicPartition]source.Committed, error) {
	h := b.l.w.hints[b.l.p]
	if b.l.trustsHint() {
		h.offset = -1
	}
	return map[source.TopicPartition]source.Committed{tps[0]: {Offset: h.offset, Metadata: h.text}}, nil
}

// TopicID is not known: no topic is made again here.
func (b broker) TopicID(context.Context, string) (string, error) { return "", nil }

// route is the breaker of a process, if it has one that knows.
type route struct{ l *laneProc }

func (r route) Direct() bool            { return !r.l.barred() }
func (r route) Report(error)            {}
func (r route) Admit(int) time.Duration { return 0 }

// chains is the journal of a process.
type chains struct{ l *laneProc }

func (c chains) Tail(id store.LaneID, stateID string, owner store.Token) *journal.Tail {
	return c.l.disk.j.Tail(id, stateID, owner)
}

// Resume applies what the owner before has journalled, before anything is read.
func (c chains) Resume(ctx context.Context, st journal.Applier, side journal.SideSender, id store.LaneID, stateID string,
	previous, owner store.Token, at store.Cursor) (report.SettledChain, error) {
	l, w := c.l, c.l.w
	if w.is(ownJournal) {
		for _, chain := range l.disk.j.Chains() {
			if chain.Lane == id && chain.State != journal.Superseded {
				previous = chain.Owner
			}
		}
	}
	from := w.origin(previous)
	w.origins[owner] = from
	l.replays, l.resuming, l.rulings = true, from, w.lastRulings(from)
	defer func() { l.replays, l.resuming = false, "" }()
	r, err := l.disk.j.Resume(ctx, st, side, id, stateID, previous, owner, at)
	if err == nil && r.Outcome != report.ChainNone {
		w.logf("resumes the journal: %+v", r)
		w.out.Resumed += int(r.Commits)
	}
	return r, err
}

// Send implements deliver.SideSender.
func (l *laneProc) Send(_ context.Context, records []source.SideRecord) error {
	if !l.w.current.pause() {
		return errCrashed
	}
	fault := l.w.faulty(l.w.weather.side)
	if fault && l.w.rng.IntN(2) == 0 {
		return errInjected
	}
	l.publish(records, l.sending != nil && l.sending == l.reseeding || l.w.rewrites[l.w.origin(l.token)] || l.w.rewrites[l.resuming])
	if fault {
		return errInjected
	}
	return nil
}

// publish puts records into the late topic and checks that what makes them late is committed. It cannot be when Redis
// lost it and the lane is writing it again: if the lane crashes before it is done, the record is void.
func (l *laneProc) publish(records []source.SideRecord, again bool) {
	committed := slices.DeleteFunc(slices.Clone(l.rulings), func(s *ruling) bool { return !slices.Contains(l.w.applied[l.p], s) })
	ref := l.w.reference(l.p, committed)
	for i := range records {
		r := sideRecord{partition: l.p, offset: -1}
		for _, h := range records[i].Headers {
			switch h.Key {
			case "mr-reason":
				r.reason = string(h.Value)
			case "mr-offset":
				r.offset = atoi(string(h.Value))
			}
		}
		if r.reason == "late" && !ref.placed[r.offset].late {
			if !again {
				l.w.fail("lane %d: offset %d goes to the late topic before the seal that makes it late is committed", l.p, r.offset)
			}
			l.w.void[[2]int64{int64(l.p), r.offset}] = true
		}
		l.w.side = append(l.w.side, r)
		l.w.logf("side record %s of offset %d", r.reason, r.offset)
	}
}
