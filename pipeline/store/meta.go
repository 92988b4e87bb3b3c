package store

import (
	"fmt"
	"strconv"
	"strings"
)

// metaDefaults are the fields of a lane that has never committed, besides format, state id and owner.
var metaDefaults = func() []any {
	fresh := &MetaUpdate{Offset: NotStarted, Watermark: NoTime, MaxTime: NoTime, Sealed: NoTime, IdleEnd: NotIdle}
	return append([]any{"cursor", Cursor{}.String()}, metaArgs(fresh)...)
}()

// metaArgs lists everything that a meta keeps of m as field, value, ...
func metaArgs(m *MetaUpdate) []any {
	var args []any
	for _, f := range metaFields(m) {
		args = append(args, f.name, f.value)
	}
	for _, f := range metaTexts(m) {
		args = append(args, f.name, f.value)
	}
	return append(args, "begun", m.Begun, "dropped", m.Balance.Dropped)
}

type metaField[T any] struct {
	name  string
	value T
}

// metaTexts lists the texts of a meta call under their names in Redis.
func metaTexts(m *MetaUpdate) [3]metaField[string] {
	return [...]metaField[string]{
		{"topic_id", m.TopicID},
		{"seals", FormatSeals(m.Seals)},
		{"accepted", FormatOffsets(m.Accepted)},
	}
}

// metaFields lists the numbers of a meta call under their names in Redis.
func metaFields(m *MetaUpdate) [21]metaField[int64] {
	return [...]metaField[int64]{
		{"offset", m.Offset},
		{"watermark", m.Watermark},
		{"max_time", m.MaxTime},
		{"sealed", m.Sealed},
		{"idle_end", m.IdleEnd},
		{"read", m.Counters.Read},
		{"invalid", m.Counters.Invalid},
		{"ahead", m.Counters.Ahead},
		{"filtered", m.Counters.Filtered},
		{"duplicate", m.Counters.Duplicate},
		{"late", m.Counters.Late},
		{"folded", m.Counters.Folded},
		{"ctl_gen", m.CtlGen},
		{"spec_gen", m.SpecGen},
		{"updated_at", m.UpdatedAt},
		{"skipped", m.Counters.Skipped},
		{"decided", m.Decided},
		{"era", m.Era},
		{"past", m.Counters.Past},
		{"jumped", m.Counters.Jumped},
		{"jumps", m.Jumps},
	}
}

// parseMeta reads a meta hash. The format is looked at first: nothing else of another version is interpreted.
func parseMeta(id LaneID, hash map[string]string) (Meta, error) {
	p := fieldParser{hash: hash}
	m := Meta{Format: int(p.int("format"))}
	if p.err == nil && (m.Format < FieldFormat || m.Format > PageFormat) {
		return m, &FormatError{Key: id.metaKey(), Found: m.Format, Want: PageFormat}
	}
	m.Done = p.added("done")
	m.StateID = hash["state"]
	m.Owner = Token(hash["owner"])
	m.TopicID = hash["topic_id"]
	m.Offset = p.int("offset")
	m.Watermark = p.int("watermark")
	m.MaxTime = p.int("max_time")
	m.Sealed = p.int("sealed")
	m.IdleEnd = p.int("idle_end")
	m.Counters = Counters{
		Read: p.int("read"), Invalid: p.int("invalid"), Ahead: p.int("ahead"), Filtered: p.int("filtered"),
		Duplicate: p.int("duplicate"), Late: p.int("late"), Folded: p.int("folded"),
	}
	m.CtlGen = p.int("ctl_gen")
	m.SpecGen = p.int("spec_gen")
	m.UpdatedAt = p.int("updated_at")
	m.Counters.Skipped, m.Decided, m.Era = p.added("skipped"), p.added("decided"), p.added("era")
	m.Begun = p.added("begun")
	m.Counters.Past, m.Counters.Jumped, m.Jumps = p.added("past"), p.added("jumped"), p.added("jumps")
	if m.Balance.Known = hash["dropped_under"] == hash["owner"]; m.Balance.Known {
		m.Balance.Dropped = p.added("dropped")
	}
	var err error
	if m.Seals, err = ParseSeals(hash["seals"]); err != nil && p.err == nil {
		p.err = err
	}
	if m.Accepted, err = ParseOffsets(hash["accepted"]); err != nil && p.err == nil {
		p.err = err
	}
	if m.Cursor, err = ParseCursor(hash["cursor"]); err != nil && p.err == nil {
		p.err = err
	}
	if p.err != nil {
		return m, fmt.Errorf("%s: %w", id.metaKey(), p.err)
	}
	return m, nil
}

// fieldParser reads integers out of a hash and keeps the first error.
type fieldParser struct {
	hash map[string]string
	err  error
}

func (p *fieldParser) int(name string) int64 {
	n, err := strconv.ParseInt(p.hash[name], 10, 64)
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("%w: field %s is %q", ErrCorrupt, name, p.hash[name])
	}
	return n
}

// added is int for a field that earlier versions did not write: it is 0 where it is missing.
func (p *fieldParser) added(name string) int64 {
	if _, ok := p.hash[name]; !ok {
		return 0
	}
	return p.int(name)
}

// FormatSeals returns offset:before,offset:before,... as it is kept in meta and in the group offset's metadata.
func FormatSeals(seals []Seal) string {
	var buf []byte
	for i, s := range seals {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendInt(buf, s.Offset, 10)
		buf = append(buf, ':')
		buf = strconv.AppendInt(buf, s.Before, 10)
	}
	return string(buf)
}

// ParseSeals is the inverse of FormatSeals.
func ParseSeals(text string) ([]Seal, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	seals := make([]Seal, len(parts))
	for i, part := range parts {
		n, err := parseInts(part, ":", 2)
		if err != nil {
			return nil, fmt.Errorf("%w: seals are %q", ErrCorrupt, text)
		}
		seals[i] = Seal{Offset: n[0], Before: n[1]}
	}
	return seals, nil
}

// FormatOffsets returns offset,offset,... as it is kept in meta and in the group offset's metadata.
func FormatOffsets(offsets []int64) string {
	var buf []byte
	for i, n := range offsets {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendInt(buf, n, 10)
	}
	return string(buf)
}

// ParseOffsets is the inverse of FormatOffsets.
func ParseOffsets(text string) ([]int64, error) {
	if text == "" {
		return nil, nil
	}
	offsets, err := parseInts(text, ",", 1+strings.Count(text, ","))
	if err != nil {
		return nil, fmt.Errorf("%w: offsets are %q", ErrCorrupt, text)
	}
	return offsets, nil
}

// Numbers of a slice in the folds hash: without a basis, as older versions wrote it, with one, and with counters that
// only some pipelines have. These are left out where they are 0, so that older versions read what they may meet. Behind
// them stands the form of a slice that has pages, which only versions that know it can meet.
const (
	bareStat = 3
	fullStat = 13
	longStat = 15
)

// Bits of a slice's form.
const (
	formPaged = 1 << iota
	formSpread
	formsEnd
)

// Form is what Paged and Spread say, as a number that is stored.
func (st *SliceStat) Form() (form int64) {
	if st.Paged {
		form |= formPaged
	}
	if st.Spread {
		form |= formSpread
	}
	return form
}

// SetForm is the inverse of Form. It reports whether there is such a form.
func (st *SliceStat) SetForm(form int64) bool {
	st.Paged, st.Spread = form&formPaged != 0, form&formSpread != 0
	return form >= 0 && form < formsEnd
}

// encode returns the slice's numbers as they are kept in the folds hash: first, last, folded, then those of the basis, then
// the form.
func (st SliceStat) encode() string {
	b, c := &st.Basis, &st.Basis.Counters
	n := [longStat + 1]int64{st.FirstOffset, st.LastOffset, st.Folded, b.Watermark, b.Sealed,
		c.Read, c.Invalid, c.Ahead, c.Filtered, c.Duplicate, c.Late, c.Folded, c.Skipped, c.Past, c.Jumped}
	used := n[:longStat]
	switch {
	case !b.Known:
		used = n[:bareStat]
	case c.Past == 0 && c.Jumped == 0:
		used = n[:fullStat]
	}
	if form := st.Form(); form != 0 {
		used = append(used, form)
	}
	buf := make([]byte, 0, 128)
	for i, v := range used {
		if i > 0 {
			buf = append(buf, ',')
		}
		buf = strconv.AppendInt(buf, v, 10)
	}
	return string(buf)
}

// parseSliceStat reads a slice of the slices set and its folds, "" when its first meta call has not come yet.
func parseSliceStat(member, folds string) (SliceStat, error) {
	slice, err := ParseSliceID(member)
	if err != nil {
		return SliceStat{}, err
	}
	if folds == "" {
		return SliceStat{SliceID: slice, FirstOffset: NoOffset, LastOffset: NoOffset}, nil
	}
	values := strings.Count(folds, ",") + 1
	n, err := parseInts(folds, ",", values)
	form := int64(0)
	switch {
	case err != nil:
	case values == bareStat+1, values == fullStat+1, values == longStat+1:
		form, n, values = n[values-1], n[:values-1], values-1
	case values != bareStat && values != fullStat && values != longStat:
		err = strconv.ErrSyntax
	}
	st := SliceStat{SliceID: slice}
	if !st.SetForm(form) || err != nil {
		return SliceStat{}, fmt.Errorf("%w: folds of %s are %q", ErrCorrupt, member, folds)
	}
	st.FirstOffset, st.LastOffset, st.Folded = n[0], n[1], n[2]
	if values > bareStat {
		st.Basis = Basis{Known: true, Watermark: n[3], Sealed: n[4], Counters: Counters{
			Read: n[5], Invalid: n[6], Ahead: n[7], Filtered: n[8], Duplicate: n[9], Late: n[10], Folded: n[11], Skipped: n[12],
		}}
	}
	if values == longStat {
		st.Basis.Counters.Past, st.Basis.Counters.Jumped = n[13], n[14]
	}
	return st, nil
}
