package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"github.com/redis/go-redis/v9"

	"millrace/pipeline/page"
)

// ErrPageGone means that a page is not there any more: later ones have replaced it, or its slice
// was dropped. Take a new index.
var ErrPageGone = errors.New("a state page is gone")

// indexAttempts bounds how often an index is taken anew because slices have come to the lane in
// between.
const indexAttempts = 8

// Span is a range of slices by their end in ms: After is excluded, UpTo included.
type Span struct{ After, UpTo int64 }

// Spans are ranges of slices, which may overlap.
type Spans []Span

// AllSlices are the spans of all slices of a lane.
var AllSlices = Spans{{After: math.MinInt64, UpTo: math.MaxInt64}}

// Holds reports whether a slice lies in the span.
func (s Span) Holds(id SliceID) bool { return id.End() > s.After && id.End() <= s.UpTo }

// Holds reports whether a slice lies in any of the spans.
func (s Spans) Holds(id SliceID) bool {
	return slices.ContainsFunc(s, func(one Span) bool { return one.Holds(id) })
}

func (s Span) bounds() *redis.ZRangeBy {
	by := redis.ZRangeBy{Min: "-inf", Max: "+inf"}
	if s.After != math.MinInt64 {
		by.Min = "(" + strconv.FormatInt(s.After, 10)
	}
	if s.UpTo != math.MaxInt64 {
		by.Max = strconv.FormatInt(s.UpTo, 10)
	}
	return &by
}

// LaneIndex is a lane's meta and the pages of its slices, read at one instant.
type LaneIndex struct {
	Meta   Meta
	Slices []SliceIndex // by end, as far as the spans that were asked for ascend
}

// SliceIndex is one slice generation with its pages.
type SliceIndex struct {
	SliceStat
	Pages  []StoredPage // of commits that have ended, newest first
	Beyond []StoredPage // of a commit that has not ended: content for nobody
}

// StoredPage is a page and the hash of its slice in which it stands.
type StoredPage struct {
	page.Name
	Hash PageHash
}

// Stats returns the slices of the index.
func (x *LaneIndex) Stats() []SliceStat {
	stats := make([]SliceStat, len(x.Slices))
	for i := range stats {
		stats[i] = x.Slices[i].SliceStat
	}
	return stats
}

// Index reads, at one instant, a lane's meta and those of its slices that lie in spans, each once,
// with the names of their pages. known are the slices as they were seen last; others are found, at the cost
// of another try. The state id must be the lane's. In a lane of FieldFormat no slice has pages.
// Errors: ErrNoMeta, ErrLaneMoved, *FormatError, *StateIDError.
func (s *Store) Index(ctx context.Context, id LaneID, stateID string, spans Spans, known []SliceStat) (LaneIndex, error) {
	asked := make(map[SliceID]bool, len(known)) // whether all hashes of the slice are asked for
	for i := range known {
		if spans.Holds(known[i].SliceID) {
			asked[known[i].SliceID] = known[i].Spread
		}
	}
	for range indexAttempts {
		x, missed, err := s.index(ctx, id, stateID, spans, asked)
		if err != nil {
			return LaneIndex{}, fmt.Errorf("index of lane %s: %w", id, err)
		}
		if !missed {
			return x, nil
		}
	}
	return LaneIndex{}, fmt.Errorf("index of lane %s: %w: it got new slices again and again", id, ErrLaneMoved)
}

// WholeIndex is Index for all slices of a lane, wherever their pages stand: those that a commit has
// left which never ended may stand in other hashes than the slice says.
func (s *Store) WholeIndex(ctx context.Context, id LaneID, stateID string) (LaneIndex, error) {
	meta, stats, err := s.LaneView(ctx, id, stateID)
	if err != nil || meta.Format < PageFormat {
		x := LaneIndex{Meta: meta}
		for _, stat := range stats {
			x.Slices = append(x.Slices, SliceIndex{SliceStat: stat})
		}
		return x, err
	}
	for i := range stats {
		stats[i].Spread = true
	}
	return s.Index(ctx, id, stateID, AllSlices, stats)
}

// eachOnce returns the members of ranges, each once, in the order in which they come.
func eachOnce(ranges []*redis.StringSliceCmd) []string {
	if len(ranges) == 1 {
		return ranges[0].Val()
	}
	var members []string
	seen := make(map[string]struct{})
	for _, r := range ranges {
		for _, member := range r.Val() {
			if _, ok := seen[member]; !ok {
				seen[member] = struct{}{}
				members = append(members, member)
			}
		}
	}
	return members
}

// askedSlice is what an index asks of one slice.
type askedSlice struct {
	id     SliceID
	hashes []*redis.StringSliceCmd // page names, by PageHash
}

// index takes one index. missed reports that slices or hashes were not asked for; asked has them
// from then on.
func (s *Store) index(ctx context.Context, id LaneID, stateID string, spans Spans, asked map[SliceID]bool,
) (x LaneIndex, missed bool, err error) {
	prefix := id.pagePrefix(stateID)
	tx := s.client.TxPipeline()
	hash := tx.HGetAll(ctx, id.metaKey())
	members := make([]*redis.StringSliceCmd, len(spans))
	for i, span := range spans {
		members[i] = tx.ZRangeByScore(ctx, id.slicesKey(), span.bounds())
	}
	of := make(map[string]*askedSlice, len(asked))
	names := make([]string, 0, len(asked))
	var stats *redis.SliceCmd
	inOrder := slices.SortedFunc(maps.Keys(asked), func(a, b SliceID) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.Gen, b.Gen))
	})
	for _, sl := range inOrder {
		a := &askedSlice{id: sl}
		n := PageHash(0)
		if asked[sl] {
			n = SpreadHashes
		}
		for h := PageHash(0); h <= n; h++ {
			a.hashes = append(a.hashes, tx.HKeys(ctx, pageKey(prefix, sl, h)))
		}
		name := sl.String()
		of[name] = a
		names = append(names, name)
	}
	if len(names) > 0 {
		stats = tx.HMGet(ctx, id.foldsKey(), names...)
	}
	if _, err := tx.Exec(ctx); err != nil {
		return x, false, err
	}
	if len(hash.Val()) == 0 {
		return x, false, ErrNoMeta
	}
	if x.Meta, err = parseMeta(id, hash.Val()); err != nil {
		return x, false, err
	}
	if x.Meta.StateID != stateID {
		return x, false, &StateIDError{Lane: id, Found: x.Meta.StateID, Want: stateID}
	}
	folds := make(map[string]string, len(names))
	for i, name := range names {
		folds[name] = replyString(stats.Val(), i)
	}
	for _, member := range eachOnce(members) {
		stat, err := parseSliceStat(member, folds[member])
		if err != nil {
			return x, false, err
		}
		a := of[member]
		if a == nil || stat.Spread && len(a.hashes) == 1 {
			asked[stat.SliceID] = stat.Spread
			missed = true
			continue
		}
		slice, err := a.index(stat, &x.Meta)
		if err != nil {
			return x, false, err
		}
		x.Slices = append(x.Slices, slice)
	}
	return x, missed, nil
}

// index sorts the names of a slice's pages by what they are.
func (a *askedSlice) index(stat SliceStat, meta *Meta) (SliceIndex, error) {
	slice := SliceIndex{SliceStat: stat}
	if meta.Format < PageFormat {
		return slice, nil // whatever stands there was left by a state that is gone
	}
	for h, cmd := range a.hashes {
		for _, text := range cmd.Val() {
			name, err := page.ParseName(text)
			if err != nil {
				return slice, fmt.Errorf("%w: slice %s: %w", ErrCorrupt, stat.SliceID, err)
			}
			p := StoredPage{Name: name, Hash: PageHash(h)}
			if name.Seq <= meta.Done {
				slice.Pages = append(slice.Pages, p)
			} else {
				slice.Beyond = append(slice.Beyond, p)
			}
		}
	}
	slices.SortFunc(slice.Pages, func(p, q StoredPage) int {
		return cmp.Or(cmp.Compare(q.Seq, p.Seq), cmp.Compare(q.Chunk, p.Chunk), cmp.Compare(p.First, q.First))
	})
	return slice, nil
}

// AppendDeletes adds the deletion of pages of a slice to deletes, those of one hash together.
func AppendDeletes(deletes []PageDelete, slice SliceID, pages []StoredPage) []PageDelete {
	byHash := slices.SortedFunc(slices.Values(pages), func(x, y StoredPage) int { return cmp.Compare(x.Hash, y.Hash) })
	for i, p := range byHash {
		if i == 0 || p.Hash != byHash[i-1].Hash {
			deletes = append(deletes, PageDelete{Slice: slice, Hash: p.Hash})
		}
		d := &deletes[len(deletes)-1]
		d.Names = append(d.Names, p.String())
	}
	return deletes
}

// SlicePage names a page and the slice generation it belongs to.
type SlicePage struct {
	Slice SliceID
	StoredPage
}

// ReadPages reads pages of a lane, in calls of a bounded number of bytes, and passes them to fn in
// their order. The guard was read in the same call as the last of them; ErrLaneMoved means that
// owner, cursor or offset did not follow from one call to the next. ErrPageGone, ErrCorrupt and
// page.ErrNewer are about one page. An error of fn is returned as it is.
func (s *Store) ReadPages(ctx context.Context, id LaneID, stateID string, pages []SlicePage, fn func(i int, p *page.Page) error) (Guard, error) {
	var last Guard
	for from := 0; from < len(pages); {
		to, bytes := from, 0
		for to < len(pages) && (to == from || bytes+pages[to].Bytes <= s.pipelineBytes) {
			bytes += pages[to].Bytes
			to++
		}
		values, guard, err := s.readPages(ctx, id, stateID, pages[from:to])
		if err != nil {
			return guard, fmt.Errorf("read lane %s: %w", id, err)
		}
		if from > 0 && !guard.Follows(last) {
			return guard, fmt.Errorf("read lane %s: %w: from %+v to %+v", id, ErrLaneMoved, last, guard)
		}
		last = guard
		for i, value := range values {
			at := &pages[from+i]
			p, err := page.Parse(at.Name, stateID, bytesOf(value))
			if errors.Is(err, page.ErrCorrupt) {
				err = fmt.Errorf("%w: %w", ErrCorrupt, err)
			}
			if err != nil {
				return guard, fmt.Errorf("read lane %s: slice %s: %w", id, at.Slice, err)
			}
			if err := fn(from+i, p); err != nil {
				return guard, err
			}
		}
		from = to
	}
	return last, nil
}

// ReadContent passes every entry of a slice generation to fn, each key once: what the index found
// in pages, and what the fields beneath them hold. key and entry are valid only during the call. It
// holds all pages of the slice in memory. Errors as for ReadPages and ReadSlice.
func (s *Store) ReadContent(ctx context.Context, id LaneID, stateID string, x *SliceIndex, buckets int, fn func(key, entry []byte) error) (Guard, error) {
	if len(x.Pages) == 0 && !x.Paged {
		return s.ReadSlice(ctx, id, stateID, x.SliceID, 0, buckets, func(_ int, key, entry []byte) error { return fn(key, entry) })
	}
	wanted, pages := make([]SlicePage, len(x.Pages)), make([]*page.Page, len(x.Pages))
	for i, p := range x.Pages {
		wanted[i] = SlicePage{Slice: x.SliceID, StoredPage: p}
	}
	guard, err := s.ReadPages(ctx, id, stateID, wanted, func(i int, p *page.Page) error {
		pages[i] = p
		return nil
	})
	if err != nil {
		return guard, err
	}
	var beneath func(func(key, entry []byte) error) error
	if !x.Paged {
		beneath = func(fn func(key, entry []byte) error) (err error) {
			guard, err = s.ReadSlice(ctx, id, stateID, x.SliceID, 0, buckets, func(_ int, key, entry []byte) error { return fn(key, entry) })
			return err
		}
	}
	err = page.MergeOver(pages, beneath, fn)
	return guard, err
}

// readPages reads the values of pages and the guard in one transaction.
func (s *Store) readPages(ctx context.Context, id LaneID, stateID string, pages []SlicePage) ([]string, Guard, error) {
	prefix := id.pagePrefix(stateID)
	tx := s.client.TxPipeline()
	head := tx.HMGet(ctx, id.metaKey(), guardFields...)
	var cmds []*redis.SliceCmd
	for from := 0; from < len(pages); {
		to := from + 1
		names := []string{pages[from].String()}
		for to < len(pages) && pages[to].Slice == pages[from].Slice && pages[to].Hash == pages[from].Hash {
			names = append(names, pages[to].String())
			to++
		}
		cmds = append(cmds, tx.HMGet(ctx, pageKey(prefix, pages[from].Slice, pages[from].Hash), names...))
		from = to
	}
	if _, err := tx.Exec(ctx); err != nil {
		return nil, Guard{}, err
	}
	guard, err := parseGuard(id, head.Val())
	if err != nil {
		return nil, Guard{}, err
	}
	values := make([]string, 0, len(pages))
	for _, cmd := range cmds {
		for _, v := range cmd.Val() {
			text, ok := v.(string)
			if !ok {
				at := &pages[len(values)]
				return nil, guard, fmt.Errorf("%w: %s of slice %s", ErrPageGone, at.Name, at.Slice)
			}
			values = append(values, text)
		}
	}
	return values, guard, nil
}
