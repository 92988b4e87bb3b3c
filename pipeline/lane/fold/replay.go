package fold

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// Replay says how a lane's state comes back when only the log is left: from where to read again, and what had been
// decided with up to there. It travels with the group's offset.
type Replay struct {
	From  int64       // lowest first offset of any slice held, the lane's own offset when there is none
	Basis store.Basis // just before From
	Seals []store.Seal
	// Accepted are the offsets of events that were accepted although they move the watermark further than max_jump.
	Accepted []int64
	Begun    int64 // where the lane's first state began; 0 at the start of its log
	Decided  int64 // records below were decided, and those to report were reported
	Era      int64
	TopicID  string
}

// Exact reports whether reading again from From decides everything as the first read did.
func (r *Replay) Exact() bool {
	return r.Basis.Known && !slices.ContainsFunc(r.Seals, func(s store.Seal) bool { return s.Before == window.NoTime && s.Offset > r.From })
}

// UnderAnotherSpec is the replay for a lane whose spec has changed what it computes: offsets mean what they meant, and what
// was late by the watermarks and seals of the spec before may be on time under this one.
func (r Replay) UnderAnotherSpec() Replay {
	r.Basis = store.Basis{Watermark: window.NoTime, Sealed: window.NoTime, Counters: r.Basis.Counters}
	r.Seals = nil
	return r
}

// maxSeals bounds the seals a lane remembers, and so the metadata of its group offset: a broker takes 4 KiB.
const maxSeals = 64

// Replay describes how the state as it is now would come back.
func (s *State) Replay() Replay {
	r := Replay{
		From: s.offset, Seals: slices.Clone(s.seals), Accepted: slices.Clone(s.accepted), Begun: s.begun,
		Decided: max(s.decided, s.offset), Era: s.era, TopicID: s.topicID,
		Basis: store.Basis{Known: true, Watermark: s.Watermark(), Sealed: s.sealed, Counters: s.counters},
	}
	for _, sl := range s.slices {
		if first := sl.stat.FirstOffset; first >= 0 && first < r.From {
			r.From, r.Basis = first, sl.stat.Basis
		}
	}
	return r
}

// raiseSeal adopts a seal. One that changes what is late is remembered with its offset: a rebuild has to do it there too. It
// replaces the one before it when the records between the two were all refused, whatever the seal.
func (s *State) raiseSeal(before int64) {
	if before <= s.sealed {
		return
	}
	s.sealed = before
	if before <= s.effective {
		return
	}
	s.effective = before
	if n := len(s.seals); n > 0 && s.seals[n-1].Before != window.NoTime && s.seals[n-1].Offset >= s.still {
		s.seals = s.seals[:n-1]
	}
	if len(s.seals) >= maxSeals {
		s.dropSeals(len(s.seals) - maxSeals + 2)
	}
	s.seals = append(s.seals, store.Seal{Offset: s.offset, Before: before})
}

// behindHint is how many seals, and how many accepted jumps, are remembered beyond those that a rebuild from here needs. The
// group's offset may lie behind what Redis has, and a rebuild from there needs those in between.
const behindHint = 8

// pruneReplay drops the oldest seals that every record a rebuild would read is decided under anyway, and the oldest accepted jumps
// that it would not read.
func (s *State) pruneReplay() {
	if len(s.seals) <= behindHint && len(s.accepted) <= behindHint {
		return
	}
	r := s.Replay()
	first := slices.IndexFunc(s.seals, func(x store.Seal) bool { // that a rebuild from here needs
		if x.Before == window.NoTime {
			return x.Offset > r.From
		}
		return !r.Basis.Known || x.Before > r.Basis.Sealed
	})
	if first < 0 {
		first = len(s.seals)
	}
	if n := first - behindHint; n > 1 { // a mark takes the place of one
		s.dropSeals(n)
	}
	unread, _ := slices.BinarySearch(s.accepted, r.From)
	if n := unread - behindHint; n > 0 {
		s.dropAccepted(n)
	}
}

// dropSeals puts a mark in the place of the n oldest seals.
func (s *State) dropSeals(n int) {
	mark := max(s.seals[0].Offset, s.seals[n-1].Offset) // the first may be a mark
	s.seals = slices.Delete(s.seals, 0, n)
	s.markForgotten(mark)
}

// markForgotten notes that up to offset not everything is remembered that records were decided with.
func (s *State) markForgotten(offset int64) {
	if len(s.seals) > 0 && s.seals[0].Before == window.NoTime {
		s.seals[0].Offset = max(s.seals[0].Offset, offset)
		return
	}
	s.seals = slices.Insert(s.seals, 0, store.Seal{Offset: offset, Before: window.NoTime})
}

// foldAgain is Fold for records that were decided before: seals are adopted where they were.
func (s *State) foldAgain(b *source.Batch) {
	for i := range b.Records {
		if s.halted {
			break
		}
		if r := &b.Records[i]; r.Offset >= s.offset {
			s.readoptSeals(r.Offset)
			if s.prescribed != nil && s.prescribed.next <= r.Offset {
				s.adoptPrescribed(r.Offset)
			}
			s.decideRecord(r)
			s.offset = r.Offset + 1
		}
	}
	s.foldGroup()
	if b.Next > s.offset && !s.halted {
		s.offset = b.Next
		s.touched = true
	}
	s.readoptSeals(s.offset)
	s.compareReread()
}

// readoptSeals adopts the seals that the record at offset was decided under.
func (s *State) readoptSeals(offset int64) {
	for _, x := range s.seals {
		if x.Offset <= offset && x.Before > s.sealed {
			s.sealed = x.Before
			s.effective = max(s.effective, s.sealed)
		}
	}
}

// Rereads reports whether the records to come were decided before: entries that include them were restored, or the state
// is being rebuilt. Until then nothing new is adopted that lateness depends on.
func (s *State) Rereads() bool { return s.offset < s.ReadBefore() }

// metadataVersion begins what travels with the group offset. An older version gave watermark and counters of the offset
// itself, which no rebuild can begin with.
const metadataVersion = "v2"

// String is the metadata of the group's offset, for people and for a rebuild.
func (r Replay) String() string {
	c := &r.Basis.Counters
	var b strings.Builder
	fmt.Fprintf(&b, "%s replay_from=%d", metadataVersion, r.From)
	if r.Basis.Known {
		fmt.Fprintf(&b, " watermark=%d sealed=%d read=%d invalid=%d ahead=%d filtered=%d duplicate=%d late=%d folded=%d skipped=%d",
			r.Basis.Watermark, r.Basis.Sealed, c.Read, c.Invalid, c.Ahead, c.Filtered, c.Duplicate, c.Late, c.Folded, c.Skipped)
	}
	if c.Past != 0 || c.Jumped != 0 {
		fmt.Fprintf(&b, " past=%d jumped=%d", c.Past, c.Jumped)
	}
	if r.Begun != 0 {
		fmt.Fprintf(&b, " begun=%d", r.Begun)
	}
	fmt.Fprintf(&b, " decided=%d era=%d topic=%s", r.Decided, r.Era, r.TopicID)
	if len(r.Seals) > 0 {
		fmt.Fprintf(&b, " seals=%s", store.FormatSeals(r.Seals))
	}
	if len(r.Accepted) > 0 {
		fmt.Fprintf(&b, " accepted=%s", store.FormatOffsets(r.Accepted))
	}
	return b.String()
}

var errMetadata = errors.New("metadata of the group offset cannot be used")

// ParseReplay is the inverse of String.
func ParseReplay(text string) (Replay, error) {
	words := strings.Fields(text)
	if len(words) == 0 || words[0] != metadataVersion {
		return Replay{}, fmt.Errorf("%w: %q, want it to begin with %s", errMetadata, text, metadataVersion)
	}
	r := Replay{Basis: store.Basis{Watermark: window.NoTime, Sealed: window.NoTime}}
	c := &r.Basis.Counters
	numbers := map[string]*int64{
		"replay_from": &r.From, "watermark": &r.Basis.Watermark, "sealed": &r.Basis.Sealed, "read": &c.Read, "invalid": &c.Invalid,
		"ahead": &c.Ahead, "filtered": &c.Filtered, "duplicate": &c.Duplicate, "late": &c.Late, "folded": &c.Folded,
		"skipped": &c.Skipped, "decided": &r.Decided, "era": &r.Era,
	}
	added := map[string]*int64{"past": &c.Past, "jumped": &c.Jumped, "begun": &r.Begun} // only where they are not 0
	seen := 0
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		var err error
		switch to := numbers[name]; {
		case to != nil:
			*to, err = strconv.ParseInt(value, 10, 64)
			seen++
		case added[name] != nil:
			*added[name], err = strconv.ParseInt(value, 10, 64)
		case name == "accepted":
			r.Accepted, err = store.ParseOffsets(value)
		case name == "topic":
			r.TopicID = value
		case name == "seals":
			r.Seals, err = store.ParseSeals(value)
		}
		if err != nil {
			return Replay{}, fmt.Errorf("%w: %q: %w", errMetadata, word, err)
		}
	}
	const bare = 3 // without a basis
	if seen != len(numbers) && seen != bare || r.From < 0 {
		return Replay{}, fmt.Errorf("%w: %q is not complete", errMetadata, text)
	}
	r.Basis.Known = seen == len(numbers)
	return r, nil
}

// ReplayOf says how a lane comes back whose slices are gone: by the metadata of the group's offset and, when its meta is
// left and went further, the seals adopted and the jumps accepted since.
func ReplayOf(meta store.Meta, hint source.Committed) (Replay, error) {
	r, err := ParseReplay(hint.Metadata)
	if err != nil {
		return r, err
	}
	if meta.Offset >= hint.Offset {
		r.Seals = slices.DeleteFunc(r.Seals, func(s store.Seal) bool { return s.Offset >= hint.Offset })
		for _, s := range meta.Seals {
			if s.Offset >= hint.Offset {
				r.Seals = append(r.Seals, s)
			}
		}
		r.Accepted = slices.DeleteFunc(r.Accepted, func(offset int64) bool { return offset >= hint.Offset })
		for _, offset := range meta.Accepted {
			if offset >= hint.Offset {
				r.Accepted = append(r.Accepted, offset)
			}
		}
	}
	r.Decided = max(r.Decided, hint.Offset, meta.Offset, meta.Decided)
	return r, nil
}
