package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/buger/jsonparser"
)

// checker compares rows with the truth as they come; a later row of the same window and key replaces the one before.
type checker struct {
	w        *Workload
	want     *Grid
	expected int64
	got      []Row
	right    int64
	revised  int64
	strange  int64
	example  []byte // the first strange row
	paths    [][]string
}

func newChecker(w *Workload) *checker {
	want, expected := truth(w)
	f := w.fields()
	// Millrace has the fields of a key, and the aggregates, in objects of their own.
	paths := [][]string{
		{"start"}, {f.Key}, {"count"}, {"sum"}, {"min"}, {"max"},
		{"key", f.Key}, {"values", "count"}, {"values", "sum"}, {"values", "min"}, {"values", "max"},
	}
	return &checker{w: w, want: want, expected: expected, got: make([]Row, len(want.rows)), paths: paths}
}

// complete reports whether every row that there has to be is right.
func (c *checker) complete() bool { return c.right == c.expected }

func (c *checker) add(value []byte) {
	start, key, row, err := c.parse(value)
	if err == nil && bytes.HasPrefix(key, []byte(closingKey)) {
		return
	}
	place := int64(-1)
	if k := c.w.keyIndex(key); err == nil && k >= 0 {
		place = c.want.place(start, k)
	}
	if place < 0 || c.want.rows[place].Count == 0 || row.Count == 0 {
		if c.strange++; c.strange == 1 {
			c.example = bytes.Clone(value)
		}
		return
	}
	got, want := &c.got[place], c.want.rows[place]
	if got.Count != 0 {
		c.revised++
	}
	if *got == want {
		c.right--
	}
	if row == want {
		c.right++
	}
	*got = row
}

// parse reads a row as Millrace or a peer writes it.
func (c *checker) parse(value []byte) (start int64, key []byte, row Row, err error) {
	const fields = 6
	var found int
	number := func(b []byte) int64 {
		n, e := strconv.ParseInt(string(b), 10, 64)
		err = errors.Join(err, e)
		return n
	}
	jsonparser.EachKey(value, func(i int, b []byte, _ jsonparser.ValueType, e error) {
		found++
		err = errors.Join(err, e)
		switch i {
		case 0:
			start = c.parseStart(b, number)
		case 1, 6:
			key = b
		case 2, 7:
			row.Count = number(b)
		case 3, 8:
			row.Sum = number(b)
		case 4, 9:
			row.Min = number(b)
		case 5, 10:
			row.Max = number(b)
		}
	}, c.paths...)
	if found != fields {
		err = errors.Join(err, fmt.Errorf("a row has %d of %d fields", found, fields))
	}
	return start, key, row, err
}

// parseStart takes milliseconds or a text of RFC 3339.
func (c *checker) parseStart(b []byte, number func([]byte) int64) int64 {
	if len(b) > 4 && b[4] == '-' {
		t, err := time.Parse(time.RFC3339, string(b))
		if err != nil {
			return number(b)
		}
		return t.UnixMilli()
	}
	return number(b)
}

// verdict compares every place and writes the first few differences to out.
func (c *checker) verdict(out io.Writer) verdict {
	v := verdict{Expected: c.expected, Revised: c.revised, Strange: c.strange}
	for i, want := range c.want.rows {
		got := c.got[i]
		switch {
		case got == want:
			if want.Count > 0 {
				v.Rows++
			}
			continue
		case got.Count == 0:
			v.Missing++
		default:
			v.Wrong++
		}
		if v.Missing+v.Wrong < 4 {
			start := c.want.first + int64(i)/c.w.Keys*c.w.Slide
			fmt.Fprintf(out, "window %d key %s: got %+v want %+v\n", start, c.w.keyName(int64(i)%c.w.Keys), got, want)
		}
	}
	if c.strange > 0 {
		fmt.Fprintf(out, "strange row: %s\n", c.example)
	}
	return v
}
