package cli

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
)

// lines reads a file of one record a line, plain or gzipped, or standard input. Every line is a record, blank ones too;
// the line feed is not part of it. It is read by one goroutine while another may ask for Done.
type lines struct {
	file   *os.File
	in     *bufio.Reader
	size   int64 // bytes of the file as it lies on disk; 0 when unknown
	read   atomic.Int64
	number int64 // records returned
}

// openLines opens name; "-" is standard input.
func openLines(name string) (*lines, error) {
	l := &lines{file: os.Stdin}
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("cannot read the feed: %w", err)
		}
		l.file = f
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			l.size = info.Size()
		}
	}
	var in io.Reader = (*countedReader)(l)
	if strings.HasSuffix(name, ".gz") {
		z, err := gzip.NewReader(bufio.NewReaderSize(in, 1<<16))
		if err != nil {
			l.file.Close()
			return nil, usagef("cannot read the feed: %s: %w", name, err)
		}
		in = z
	}
	l.in = bufio.NewReaderSize(in, 1<<18)
	return l, nil
}

// countedReader counts what leaves the file.
type countedReader lines

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.file.Read(p)
	c.read.Add(int64(n))
	return n, err
}

// Next returns the next line in memory of its own, or io.EOF.
func (l *lines) Next() ([]byte, error) {
	line, err := l.readLine()
	switch {
	case err == nil:
		line = line[:len(line)-1]
	case errors.Is(err, bufio.ErrTooLong):
		return nil, usagef("line %d of %s has more than %d bytes, the longest that is fed", l.number+1, l.file.Name(), maxLine)
	case !errors.Is(err, io.EOF):
		return nil, fmt.Errorf("read %s after line %d: %w", l.file.Name(), l.number, err)
	case len(line) == 0:
		return nil, io.EOF
	}
	l.number++
	return line, nil
}

// maxLine bounds a line, and with it what a small compressed file can become in memory. Brokers take records of 1 MB unless told otherwise.
const maxLine = 32 << 20

// readLine reads up to and with a line break, or up to the end.
func (l *lines) readLine() (line []byte, err error) {
	for {
		part, err := l.in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, bufio.ErrTooLong
		}
		line = append(line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return line, err
		}
	}
}

// Skip passes over n lines. A file that ends before is an error: whoever resumes there means another file.
func (l *lines) Skip(n int64) error {
	for range n {
		if _, err := l.Next(); errors.Is(err, io.EOF) {
			return usagef("%s has only %d lines; --from-line %d is behind its end", l.file.Name(), l.number, n+1)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// Done is the part of the file that was read, from 0 to 1; negative when its size is unknown.
func (l *lines) Done() float64 {
	if l.size == 0 {
		return -1
	}
	return min(1, float64(l.read.Load())/float64(l.size))
}

// Close closes the file.
func (l *lines) Close() error { return l.file.Close() }
