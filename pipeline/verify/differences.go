package verify

import (
	"cmp"
	"slices"

	"millrace/pipeline/ledger"
)

// published is what the result topic holds, summed up by revision. A revision that published only what it changed adds the
// difference to what the one before had. The records of a key come in the order of their revisions, unless the topic was given
// more partitions in between.
type published struct {
	sums    map[revisionID]*revisionSum
	whole   map[revisionID]int // the whole revision that a difference builds on
	differs map[ledger.WindowID]bool
	digests map[uint64][]digestOf // by window and key, of windows with differences; by revision
	hasher  ledger.Hasher
}

// revisionSum is what the rows of a revision add to the content before it, or are when they are all.
type revisionSum struct {
	sum  ledger.Checksum
	rows int64
}

// digestOf is what a revision has of a key.
type digestOf struct {
	revision int
	digest   ledger.Digest
	deleted  bool
}

func newPublished(l *ledgerTopic) *published {
	p := &published{
		sums: make(map[revisionID]*revisionSum), whole: make(map[revisionID]int), differs: make(map[ledger.WindowID]bool),
		digests: make(map[uint64][]digestOf),
	}
	for id, s := range l.windows {
		for _, row := range s.rows {
			for _, link := range row.Links {
				if !link.Whole {
					p.whole[revisionID{id, link.Revision}] = row.Links[0].Revision
					p.differs[id] = true
				}
			}
		}
	}
	return p
}

func (p *published) add(id revisionID, r *ledger.ResultRow) {
	of := p.sums[id]
	if of == nil {
		of = new(revisionSum)
		p.sums[id] = of
	}
	of.rows++
	if !p.differs[id.WindowID] {
		of.sum.Add(*r)
		return
	}
	now := digestOf{revision: id.revision, deleted: r.Deleted}
	if !r.Deleted {
		now.digest = p.hasher.Digest(ledger.Content{Key: r.Key, Values: r.Values, Overflow: r.Overflow})
		of.sum.AddDigest(now.digest)
	}
	key := rowHash(revisionID{WindowID: id.WindowID}, r.Key)
	all := p.digests[key]
	at, _ := slices.BinarySearchFunc(all, id.revision+1, func(d digestOf, rev int) int { return cmp.Compare(d.revision, rev) })
	if at > 0 && p.replaces(id, all[at-1]) {
		of.sum.SubDigest(all[at-1].digest)
	}
	if at < len(all) { // it follows this one
		next := revisionID{id.WindowID, all[at].revision}
		if at > 0 && p.replaces(next, all[at-1]) {
			p.sums[next].sum.AddDigest(all[at-1].digest)
		}
		if p.replaces(next, now) {
			p.sums[next].sum.SubDigest(now.digest)
		}
	}
	p.digests[key] = slices.Insert(all, at, now)
}

// replaces reports whether a revision has changed what an earlier one had of a key: both are of one content then.
func (p *published) replaces(id revisionID, earlier digestOf) bool {
	whole, differs := p.whole[id]
	return differs && !earlier.deleted && earlier.revision >= whole
}

// content is what the revisions that a row links to add up to, and whether these are more than one. A row of version 1 links
// to nothing: its revision is whole.
func (p *published) content(row *ledger.Row) (sum ledger.Checksum, differs bool) {
	links := row.Links
	if len(links) == 0 {
		links = []ledger.Link{{Revision: row.Revision}}
	}
	for _, link := range links {
		if of := p.sums[revisionID{row.ID(), link.Revision}]; of != nil {
			sum.AddChecksum(of.sum)
		}
	}
	return sum, len(links) > 1
}
