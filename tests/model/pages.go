package model

import (
	"cmp"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"millrace/pipeline/agg"
	"millrace/pipeline/page"
	"millrace/pipeline/store"
)

// never is the step from which on all readers can read pages in a run of which lanes stay in fields.
const never = math.MaxInt

// turning says when lanes turn from fields to pages. It has a source of its own, so that a run in fields does not depend on it.
type turning struct {
	rng  *rand.Rand
	from int // step from which on every reader can read pages
}

func newTurning(seed uint64, steps int) turning {
	rng := rand.New(rand.NewPCG(seed, 0x7061676573))
	t := turning{rng: rng}
	switch rng.IntN(6) {
	case 0:
		t.from = never
	case 1, 2:
		t.from = 1 + rng.IntN(steps)
	}
	return t
}

// knows reports whether a process that starts now writes pages: most do as soon as every reader can read them.
func (t *turning) knows(step int) bool { return step >= t.from && t.rng.IntN(8) > 0 }

// learns reports whether a process that writes fields begins to write pages now.
func (t *turning) learns(step int) bool { return step >= t.from && t.rng.IntN(10) == 0 }

// allowPages lets the lane's commits be in pages from the next one on if all readers can read them. Not every process knows that
// when it starts, and one that knows has to wait until the lane reads nothing again.
func (l *laneProc) allowPages(starts bool) {
	if starts {
		l.pages = l.pages || l.w.turning.knows(l.w.step)
	} else if !l.pages {
		l.pages = l.w.turning.learns(l.w.step)
	}
	if !l.pages {
		return
	}
	l.commits.AllowPages(true)
	if state := l.holder.State(); l.w.is(turnsInOrder) && !state.InPages() {
		state.TurnToPages()
	}
}

// inPages reports whether a lane's content is in pages.
func inPages(t *tag) bool { return t.hashes["mr:{"+t.name+"}:meta"]["done"] != "" }

// pagesOf are the names of the pages that Redis holds of a lane, newest first, by slice.
func (w *World) pagesOf(t *tag) map[string][]store.StoredPage {
	pages := map[string][]store.StoredPage{}
	for key, fields := range t.hashes {
		member, h, ok := w.pageKeyOf(t, key)
		if !ok {
			continue
		}
		for field := range fields {
			name, known := w.names[field]
			if !known {
				var err error
				if name, err = page.ParseName(field); err != nil {
					w.fail("%s: %v", key, err)
				}
				w.names[field] = name
			}
			pages[member] = append(pages[member], store.StoredPage{Name: name, Hash: h})
		}
	}
	for _, list := range pages {
		slices.SortFunc(list, func(a, b store.StoredPage) int {
			return cmp.Or(cmp.Compare(b.Seq, a.Seq), cmp.Compare(b.Chunk, a.Chunk), cmp.Compare(a.First, b.First))
		})
	}
	return pages
}

// pageKeyOf takes the name of a key with pages apart: the slice, and which of its hashes.
func (w *World) pageKeyOf(t *tag, key string) (member string, h store.PageHash, ok bool) {
	member, ok = strings.CutPrefix(key, "mr:{"+t.name+"}:p:"+w.program.StateID+":")
	if parts := strings.Split(member, ":"); ok && len(parts) > 3 {
		member, h = strings.Join(parts[:3], ":"), store.PageHash(atoi(parts[3]))
	}
	return member, h, ok
}

// pageKey is the inverse of pageKeyOf.
func (w *World) pageKey(t *tag, member string, h store.PageHash) string {
	key := "mr:{" + t.name + "}:p:" + w.program.StateID + ":" + member
	if h > 0 {
		key += ":" + strconv.Itoa(int(h))
	}
	return key
}

// pageOf is a page as it stands in Redis.
func (w *World) pageOf(t *tag, member string, p store.StoredPage) (*page.Page, error) {
	value := t.hashes[w.pageKey(t, member, p.Hash)][p.String()]
	if parsed, ok := w.parsed[value]; ok && parsed.Name == p.Name {
		return parsed, nil
	}
	parsed, err := page.Parse(p.Name, w.program.StateID, []byte(value))
	if err == nil {
		w.parsed[value] = parsed
	}
	return parsed, err
}

// below is what a lane has folded below an offset, by slice and key.
type below struct {
	ref    *reference
	offset int64
	counts map[store.SliceID]map[byte]int64
}

// below returns what the events of a partition below an offset make of every slice.
func (w *World) below(p int, ref *reference, offset int64) map[store.SliceID]map[byte]int64 {
	b := &w.folded[p]
	if b.ref != ref || b.offset > offset {
		*b = below{ref: ref, counts: map[store.SliceID]map[byte]int64{}}
	}
	for ; b.offset < offset; b.offset++ {
		pl, e := &ref.placed[b.offset], &w.parts[p].events[b.offset]
		if !pl.folded {
			continue
		}
		id := store.SliceID{Width: w.plan.Width, Start: pl.start, Gen: pl.gen}
		if b.counts[id] == nil {
			b.counts[id] = map[byte]int64{}
		}
		b.counts[id][e.key]++
	}
	return b.counts
}

// checkContent looks at a lane in pages after every call that changed anything of it. What Redis has of it is at every instant
// exactly the events below the committed offset: of each key the entry in the page of the highest place up to the last commit
// that has ended, and beneath pages what fields hold where the slice says that they do. So nothing that content needs is
// ever deleted, and what the slices hold and what was dropped add up to what was folded.
func (w *World) checkContent(p int, t *tag) {
	prefix := "mr:{" + t.name + "}:"
	meta := t.hashes[prefix+"meta"]
	offset := atoi(meta["offset"])
	if meta["format"] != strconv.Itoa(store.PageFormat) || offset < 0 || offset > w.parts[p].end() {
		return
	}
	ref := w.reference(p, t.rulings())
	if !balanced(t) {
		if !w.damaged[p] {
			w.fail("lane %d at offset %d, cursor %s: the slices and what was dropped are not what was folded", p, offset, meta["cursor"])
		}
		return // it shows
	}
	want := w.below(p, ref, offset)
	done := int64(0)
	if text, ok := meta["done"]; ok {
		done = atoi(text)
	}
	pages := w.pagesOf(t)
	for _, member := range slices.Sorted(maps.Keys(t.zsets[prefix+"slices"])) {
		id, err := store.ParseSliceID(member)
		if err != nil || w.letGo(p, id.Start) {
			continue
		}
		got, ok := w.contentOf(p, t, member, pages[member], done, offset)
		if sum := sumOf(got); !ok || w.damaged[p] && sum != foldedOf(t, member) {
			continue // somebody else has deleted or written something here, and it shows
		}
		if !maps.Equal(got, want[id]) {
			w.fail("lane %d at offset %d, cursor %s, done %d: slice %s holds %v, the events below make %v", p, offset, meta["cursor"],
				done, member, got, want[id])
			return
		}
	}
	if w.damaged[p] {
		return
	}
	for _, id := range sortedKeys(want) {
		if _, ok := t.zsets[prefix+"slices"][id.String()]; !ok && !w.letGo(p, id.Start) {
			w.fail("lane %d at offset %d, cursor %s: slice %s is gone, and nobody let it go", p, offset, meta["cursor"], id)
		}
	}
}

func sumOf(counts map[byte]int64) (sum int64) {
	for _, n := range counts {
		sum += n
	}
	return sum
}

// contentOf is how many events the content of a slice counts, by key. It is not ok where somebody has written to it, or where a
// lane in fields is in the middle of a commit.
func (w *World) contentOf(p int, t *tag, member string, pages []store.StoredPage, done, offset int64) (got map[byte]int64, ok bool) {
	got = map[byte]int64{}
	add := func(key, entry []byte) bool {
		k := key[len(key)-1]
		_, stamp, count, err := agg.EntryHeader(entry)
		if _, newer := got[k]; !newer && err == nil && stamp <= offset {
			got[k] = count
		}
		return err == nil && stamp <= offset
	}
	if done > 0 {
		for _, stored := range pages {
			if stored.Seq > done {
				continue
			}
			one, err := w.pageOf(t, member, stored)
			if err != nil {
				if !w.damaged[p] {
					w.fail("lane %d slice %s: %v", p, member, err)
				}
				return got, false
			}
			for i := range one.Len() {
				if !add(one.Entry(i)) {
					w.fail("lane %d slice %s: page %s holds an entry of another offset than %d", p, member, stored.Name, offset)
					return got, false
				}
			}
		}
		if w.isPaged(t, member) {
			return got, true
		}
	}
	for b := range w.spec.Lane.Buckets {
		for key, entry := range t.hashes["mr:{"+t.name+"}:s:"+w.program.StateID+":"+member+":"+strconv.Itoa(b)] {
			if !add([]byte(key), []byte(entry)) {
				if done > 0 && !w.damaged[p] {
					w.fail("lane %d slice %s: an entry beneath pages is newer than offset %d", p, member, offset)
				}
				return got, false
			}
		}
	}
	return got, true
}

// isPaged reports whether a slice says that no fields lie beneath its pages.
func (w *World) isPaged(t *tag, member string) bool {
	_, _, form := cutFolds(t.hashes["mr:{"+t.name+"}:folds"][member])
	return form&1 != 0
}

// judgePages: Redis has the pages that the lane knows of, unless somebody has deleted some, and no others.
func (w *World) judgePages(p int) {
	t, state := w.laneTag(p), w.assigned[p].holder.State()
	if w.damaged[p] && !state.InPages() {
		return // those of a state that is gone stay until the lane turns to pages
	}
	known := state.Paging()
	held, all := 0, w.pagesOf(t)
	for _, member := range slices.Sorted(maps.Keys(all)) {
		pages := all[member]
		if _, ok := t.zsets["mr:{"+t.name+"}:slices"][member]; ok {
			held += len(pages)
		} else if !w.damaged[p] { // keys of slices that nobody registers again stay
			w.fail("lane %d: %d pages are left of slice %s, which is not there", p, len(pages), member)
		}
	}
	if want := known.Pages + known.Retired; held > want || held < want && !w.damaged[p] {
		w.fail("lane %d: Redis has %d pages, the lane knows of %d, and of %d that it is to delete", p, held, known.Pages, known.Retired)
	}
}
