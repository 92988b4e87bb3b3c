package agg

import "strconv"

func newCount(string) column { return count{} }

// count publishes the number of events. It has no state: every row counts.
type count struct{}

func (count) op() opcode                                     { return opNone }
func (count) size() int                                      { return 0 }
func (count) init([]byte)                                    {}
func (count) encode(_ *Table, dst, _ []byte, _ int64) []byte { return dst }
func (count) decode(*reader, int64, *partial)                {}
func (count) load(*Table, *reader, []byte, int64)            {}
func (count) merge(*Table, []byte, *partial, int32)          {}
func (count) overflow(*Table, []byte) bool                   { return false }

func (count) value(_ *Table, dst, _ []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }
