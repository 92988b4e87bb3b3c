package model

import (
	"maps"
	"slices"
	"strings"

	"millrace/pipeline/report"
)

// disturb lets at most one fault happen and reports whether it did.
func (w *World) disturb() bool {
	f := &w.weather
	switch {
	case len(w.delayed) > 0 && w.roll(0.05):
		i := w.rng.IntN(len(w.delayed))
		late := w.delayed[i]
		w.delayed = append(w.delayed[:i], w.delayed[i+1:]...)
		late()
	case w.faulty(f.crash):
		w.crashAny()
	case w.faulty(f.freeze):
		if a := w.anyActor(); a != nil && (w.sky != Crowd || a.lane == nil) {
			a.thaw = w.step + w.rng.IntN(w.steps/4)
			w.logf("%s freezes up to step %d", a.name, a.thaw)
		}
	case w.faulty(f.revoke):
		w.reassign(w.rng.IntN(len(w.parts)))
	case w.faulty(f.rewind):
		w.rewind()
	case w.faulty(f.flush):
		w.flush()
	case w.faulty(f.loss):
		w.lose(w.rng.IntN(len(w.parts)))
	case w.faulty(f.forget):
		w.logf("redis forgets its scripts")
		clear(w.redis.cached)
	case w.outage > 0 && w.faulty(w.outage):
		w.disconnect()
	case w.outage > 0 && w.roll(w.outage):
		w.settleChains(w.rng.IntN(len(w.parts)))
	case w.roll(f.closer):
		w.changeClosers()
	case w.roll(f.operator):
		w.operate()
	default:
		return false
	}
	return true
}

func (w *World) anyActor() *actor {
	w.sweep()
	if len(w.actors) == 0 {
		return nil
	}
	return w.actors[w.rng.IntN(len(w.actors))]
}

// crashAny kills a process. The coordinator notices at once or later.
func (w *World) crashAny() {
	a := w.anyActor()
	if a == nil {
		return
	}
	w.logf("%s crashes", a.name)
	w.crash(a.proc)
	if a.lane == nil {
		return
	}
	if w.sky == Loss && w.rng.IntN(2) == 0 {
		w.lose(a.lane.p) // in the middle of a commit, maybe
	}
	switch p := a.lane.p; {
	case w.assigned[p] == a.lane && w.rng.IntN(3) > 0:
		w.assign(p)
	case a.lane.disk != nil && w.rng.IntN(2) == 0:
		w.settleChains(p) // the worker starts again and the group has not given it the lane yet
	}
}

// reassign gives a partition to another process. The old one hears it when it runs, or only when it is fenced.
func (w *World) reassign(p int) {
	if before := w.assigned[p]; w.rng.IntN(2) == 0 {
		before.revoked = true
		before.commitHint() // its session ends in order
	}
	w.assign(p)
}

// operate brings dead lanes back and lets the operator answer: a lost state is rebuilt, or the group's offset is reset; jumps are
// accepted or refused.
func (w *World) operate() {
	for p, l := range w.assigned {
		if l.crashed || l.ended {
			w.assign(p)
		}
		l = w.assigned[p]
		switch inc := l.incident; {
		case inc == nil || l.decided:
		case inc.Kind == report.IncidentJump:
			l.decide([]string{report.ChoiceAccept, report.ChoiceRefuse}[w.rng.IntN(2)])
		case l.partial || w.damaged[p] || w.rng.IntN(4) > 0:
			l.decide(report.ChoiceRebuild)
		default:
			w.logf("the operator resets the group's offset of partition %d", p)
			w.hints[p] = hint{offset: -1}
			w.reassign(p)
		}
	}
	if len(w.closers) == 0 {
		w.newCloser()
	}
}

// lose deletes some of what Redis holds of a lane, as an eviction or a hand does.
func (w *World) lose(p int) {
	t := w.laneTag(p)
	prefix := "mr:{" + t.name + "}:"
	if w.hints[p].offset < 0 {
		return // nothing says how the lane would come back
	}
	if w.rng.IntN(6) == 0 {
		w.spoil(p)
		return
	}
	var key string
	switch w.rng.IntN(5) {
	case 0:
		key = prefix + "slices"
	case 1:
		key = prefix + "folds"
	case 2:
		key = prefix + "meta"
		if w.weather.keepRulings && effective(t.rulings()) {
			return
		}
	default:
		entries := w.entryKeys(t)
		if len(entries) == 0 {
			return
		}
		key = entries[w.rng.IntN(len(entries))]
	}
	delete := []string{"unlink", key}
	if fields := t.hashes[key]; strings.HasPrefix(key, prefix+"p:") && len(fields) > 1 && w.rng.IntN(2) == 0 {
		delete = []string{"hdel", key, slices.Sorted(maps.Keys(fields))[w.rng.IntN(len(fields))]}
	}
	if reply, _ := w.redis.do(delete); reply == int64(0) {
		return
	}
	w.logf("somebody calls %v", delete)
	w.damaged[p] = true
	w.out.Lost++
	if key == prefix+"meta" {
		marks := t.marks
		t.marks = nil
		last := len(t.calls) - 1
		t.calls[last] = append(t.calls[last], func() { t.marks = marks })
	}
}

// entryKeys are the keys that hold entries of a lane, in fields or in pages.
func (w *World) entryKeys(t *tag) []string {
	prefix := "mr:{" + t.name + "}:"
	return slices.DeleteFunc(slices.Sorted(maps.Keys(t.hashes)), func(k string) bool {
		return !strings.HasPrefix(k, prefix+"s:") && !strings.HasPrefix(k, prefix+"p:")
	})
}

// spoil makes an entry, or a page, in Redis one that nobody here can read.
func (w *World) spoil(p int) {
	t := w.laneTag(p)
	entries := w.entryKeys(t)
	if len(entries) == 0 {
		return
	}
	key := entries[w.rng.IntN(len(entries))]
	fields := slices.Sorted(maps.Keys(t.hashes[key]))
	field := fields[w.rng.IntN(len(fields))]
	entry := t.hashes[key][field]
	if _, err := w.redis.do([]string{"hset", key, field, entry[:len(entry)-1]}); err != nil {
		w.fail("spoil %s: %v", key, err)
	}
	w.logf("somebody writes to %s", key)
	w.damaged[p] = true
	w.out.Spoilt++
}

// rewind makes Redis forget a suffix of the calls of some hash tags, as a fail-over does.
func (w *World) rewind() {
	for _, name := range w.redis.names() {
		t := w.redis.tags[name]
		if len(t.calls) == 0 || w.rng.IntN(3) > 0 {
			continue
		}
		n := 1 + w.rng.IntN(min(len(t.calls), 40))
		if w.rng.IntN(3) > 0 {
			n = min(n, 1+w.rng.IntN(6))
		}
		lost, paged := 0, inPages(t)
		for range n {
			if w.weather.keepRulings && t.losesRuling() {
				break
			}
			t.rewind(1)
			lost++
		}
		if paged && !inPages(t) {
			w.out.Back++
		}
		w.logf("redis forgets the last %d calls of %s", lost, name)
	}
}

// flush is FLUSHALL.
func (w *World) flush() {
	if w.weather.keepRulings {
		for _, name := range w.redis.names() {
			if effective(w.redis.tags[name].rulings()) {
				return
			}
		}
	}
	w.logf("FLUSHALL")
	lost := w.redis.tags
	w.redis.reset()
	for _, name := range sortedKeys(lost) {
		w.redis.tag(name).lost = lost[name].lost + 1
	}
	if w.rng.IntN(2) > 0 {
		return
	}
	for p, l := range w.assigned { // their processes were on the same machine: nobody has the state in memory
		if w.rng.IntN(3) > 0 {
			w.logf("%s crashes too", l.name)
			w.crash(&l.proc)
			w.assign(p)
		}
	}
}

// describe is one command for people.
func describe(args []string) string {
	key := 1
	if strings.HasPrefix(args[0], "eval") {
		key = 3
	}
	if key >= len(args) {
		return args[0]
	}
	text := args[0] + " " + args[key]
	if strings.HasSuffix(args[key], ":meta") {
		if owner, prev, next, ok := applyArgs(args); ok {
			return "apply " + args[key] + " " + short(owner) + " " + prev + " to " + next
		}
	}
	return text
}

func short(token string) string {
	if i := strings.IndexByte(token, ':'); i >= 0 && len(token) > i+5 {
		return token[:i+5]
	}
	return token
}

// applyArgs recognises a call of a commit and returns its owner and cursors.
func applyArgs(args []string) (owner, prev, next string, ok bool) {
	if (args[0] != "evalsha" && args[0] != "eval") || len(args) < 9 || !strings.HasSuffix(args[4], ":slices") {
		return "", "", "", false
	}
	n := 0
	for _, c := range args[2] {
		n = 10*n + int(c-'0')
	}
	if at := 3 + n; at+2 < len(args) {
		return args[at], args[at+1], args[at+2], true
	}
	return "", "", "", false
}

// replaces reports whether a command that applyArgs recognises replaces a lane's state.
func replaces(args []string) bool {
	const keys, prefix = 3, 4 // which argument is the prefix of the slices
	at := 3 + keys + prefix
	return args[2] == "3" && at < len(args) && strings.HasSuffix(args[at], "}:s:")
}

// accepted reports whether Redis has carried out a call of a commit, or replaced a lane's state.
func accepted(reply any) bool {
	switch r := reply.(type) {
	case int64:
		return r == 1
	case []any:
		_, refused := r[0].(int64)
		return !refused
	}
	return false
}
