package store

import (
	"fmt"
	"strconv"
)

// metaDefaults are the fields of a lane that has never committed, besides format, state id and owner.
var metaDefaults = func() []any {
	fields := []any{"cursor", Cursor{}.String()}
	fresh := &MetaUpdate{Offset: NotStarted, Watermark: NoTime, MaxTime: NoTime, Sealed: NoTime, IdleEnd: NotIdle}
	for _, f := range metaFields(fresh) {
		fields = append(fields, f.name, f.value)
	}
	return append(fields, "topic_id", "")
}()

type metaField struct {
	name  string
	value int64
}

// metaFields lists the numbers of a meta call under their names in Redis.
func metaFields(m *MetaUpdate) [15]metaField {
	return [...]metaField{
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
	}
}

// parseMeta reads a meta hash. The format is looked at first: nothing else of another version is interpreted.
func parseMeta(id LaneID, hash map[string]string) (Meta, error) {
	p := fieldParser{hash: hash}
	m := Meta{Format: int(p.int("format"))}
	if p.err == nil && m.Format != Format {
		return m, &FormatError{Key: id.metaKey(), Found: m.Format, Want: Format}
	}
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
	cursor, err := ParseCursor(hash["cursor"])
	if p.err == nil {
		p.err = err
	}
	m.Cursor = cursor
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

// encode returns first,last,folded as it is kept in the folds hash.
func (st SliceStat) encode() string {
	buf := make([]byte, 0, 48)
	buf = strconv.AppendInt(buf, st.FirstOffset, 10)
	buf = append(buf, ',')
	buf = strconv.AppendInt(buf, st.LastOffset, 10)
	buf = append(buf, ',')
	return string(strconv.AppendInt(buf, st.Folded, 10))
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
	n, err := parseInts(folds, ",", 3)
	if err != nil {
		return SliceStat{}, fmt.Errorf("%w: folds of %s are %q", ErrCorrupt, member, folds)
	}
	return SliceStat{SliceID: slice, FirstOffset: n[0], LastOffset: n[1], Folded: n[2]}, nil
}
