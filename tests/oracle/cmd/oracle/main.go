// Command oracle prints what a pipeline must publish for a feed, or compares what it published with that.
//
//	oracle --spec FILE --feed FILE[.gz] [--partitions N] > expected.jsonl
//	oracle --spec FILE --feed FILE[.gz] [--partitions N] --compare RESULTS.jsonl
//
// It exits with 1 when the comparison finds a difference and with 2 when it could not be made.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"millrace/tests/oracle"
)

type options struct {
	spec, feed, compare string
	partitions          int
	counts              bool
}

func main() {
	var o options
	flag.StringVar(&o.spec, "spec", "", "pipeline spec, YAML or JSON")
	flag.StringVar(&o.feed, "feed", "", "input, one JSON record a line, plain or .gz")
	flag.IntVar(&o.partitions, "partitions", 4, "partitions the lines are spread over, round-robin")
	flag.BoolVar(&o.counts, "counts", false, "print the counters and late events, instead of the rows or before the comparison")
	flag.StringVar(&o.compare, "compare", "", "results to compare with, JSON lines")
	flag.Parse()
	equal, err := run(o, os.Stdout)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(2)
	case !equal:
		os.Exit(1)
	}
}

func run(o options, out io.Writer) (equal bool, err error) {
	text, err := os.ReadFile(o.spec)
	if err != nil {
		return false, err
	}
	s, err := oracle.ReadSpec(text)
	if err != nil {
		return false, fmt.Errorf("%s: %w", o.spec, err)
	}
	if o.partitions < 1 || len(s.Topics) != 1 {
		return false, fmt.Errorf("a feed needs at least one partition and a spec with exactly one topic")
	}
	feed, err := read(o.feed)
	if err != nil {
		return false, err
	}
	res, err := oracle.Run(s, oracle.RoundRobin(s.Topics[0], oracle.Lines(feed), o.partitions, time.Now().UnixMilli()))
	if err != nil {
		return false, err
	}
	if o.counts {
		err := json.NewEncoder(out).Encode(map[string]any{
			"rows": len(res.Rows), "totals": res.Totals(), "lanes": res.Lanes, "late": res.Late})
		if err != nil || o.compare == "" {
			return true, err
		}
	}
	if o.compare == "" {
		return true, res.WriteJSON(out)
	}
	var expected bytes.Buffer
	if err := res.WriteJSON(&expected); err != nil {
		return false, err
	}
	actual, err := os.Open(o.compare)
	if err != nil {
		return false, err
	}
	defer actual.Close()
	diff, err := oracle.Compare(&expected, actual, oracle.Options{})
	if err != nil {
		return false, err
	}
	fmt.Fprintln(out, diff)
	return diff.Equal(), nil
}

func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if !strings.HasSuffix(name, ".gz") {
		return io.ReadAll(f)
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}
