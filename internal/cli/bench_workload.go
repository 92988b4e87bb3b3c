package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"millrace/pipeline/spec"
)

// Distributions of the keys.
const (
	keysUniform = "uniform" // every key is as likely as any other
	keysZipf    = "zipf"    // key number k comes in proportion to (1+k) to the power of -1.1
)

// workload is what the benchmark's records are and which windows its pipeline has. The records follow from it: two
// programs with the same workload make the same ones.
type workload struct {
	name         string
	about        string
	records      int64
	keys         int64
	partitions   int32
	distribution string
	window       durationFlag
	slide        durationFlag // 0: the windows are tumbling
	span         durationFlag // event time that the records cover
}

const (
	workloadDefault = "keys-100k"
	workloadAll     = "all"
)

// workloadHour is what `millrace tune` measures with, too.
var workloadHour = workload{
	name: "hour", about: "long windows: what is written while a window is open",
	records: 9_000_000, keys: 100_000, partitions: 4, distribution: keysUniform, window: seconds(3600), span: seconds(10800),
}

// workloads are those that --workload names. Those with short windows have 100,000 events in a second of event time.
var workloads = []workload{
	{
		name: "keys-1k", about: "few keys: the price of reading and folding",
		records: 12_000_000, keys: 1_000, partitions: 4, distribution: keysUniform, window: seconds(10), span: seconds(120),
	},
	{
		name: workloadDefault, about: "ten events a row",
		records: 6_000_000, keys: 100_000, partitions: 4, distribution: keysUniform, window: seconds(10), span: seconds(60),
	},
	{
		name: "keys-1m", about: "hardly more events than rows: the price of a row",
		records: 3_000_000, keys: 1_000_000, partitions: 4, distribution: keysUniform, window: seconds(10), span: seconds(30),
	},
	{
		name: "partitions-64", about: "every row is merged from many lanes",
		records: 4_000_000, keys: 100_000, partitions: 64, distribution: keysUniform, window: seconds(3600), span: seconds(7200),
	},
	{
		name: "windows-1s", about: "a window every second",
		records: 3_000_000, keys: 100_000, partitions: 4, distribution: keysUniform, window: seconds(1), span: seconds(30),
	},
	{
		name: "hopping", about: "a window every second of a minute each: every event counts in 60",
		records: 500_000, keys: 10_000, partitions: 4, distribution: keysUniform, window: seconds(60),
		slide: seconds(1), span: seconds(80),
	},
	workloadHour,
}

func seconds(n int) durationFlag { return durationFlag(time.Duration(n) * time.Second) }

// workloadNamed returns a named workload.
func workloadNamed(name string) (workload, error) {
	names := make([]string, len(workloads))
	for i, w := range workloads {
		if w.name == name {
			return w, nil
		}
		names[i] = w.name
	}
	return workload{}, usagef("--workload is %q; want %s or %s", name, strings.Join(names, ", "), workloadAll)
}

// hourly is the workload "hour" with other numbers of records, keys and partitions.
func hourly(records, keys int64, partitions int32) workload {
	w := workloadHour
	w.records, w.keys, w.partitions = records, keys, partitions
	return w
}

// addTo gives a command a flag for every value of a workload.
func (w *workload) addTo(flags *pflag.FlagSet) {
	flags.Int64Var(&w.records, "records", 0, "records to produce and read, without those that close the windows")
	flags.Int64Var(&w.keys, "keys", 0, "distinct keys")
	flags.Int32Var(&w.partitions, "partitions", 0, "partitions of the topic")
	flags.StringVar(&w.distribution, "keys-distribution", "", "how often keys come: "+keysUniform+" or "+keysZipf)
	flags.Var(&w.window, "window", "size of a window")
	flags.Var(&w.slide, "slide", "time between the starts of two windows (default: the size)")
	flags.Var(&w.span, "span", "event time that the records cover, and so how many windows close")
}

// override takes over what was said on the command line.
func (w *workload) override(asked *workload, flags *pflag.FlagSet) {
	for name, take := range map[string]func(){
		"records":           func() { w.records = asked.records },
		"keys":              func() { w.keys = asked.keys },
		"partitions":        func() { w.partitions = asked.partitions },
		"keys-distribution": func() { w.distribution = asked.distribution },
		"window":            func() { w.window = asked.window },
		"slide":             func() { w.slide = asked.slide },
		"span":              func() { w.span = asked.span },
	} {
		if flags.Changed(name) {
			take()
		}
	}
}

func (w *workload) validate() error {
	switch {
	case w.records < 1000:
		return usagef("--records is %d; want at least 1000", w.records)
	case w.keys < 1 || w.keys > 1_000_000_000:
		return usagef("--keys is %d; want 1 to 1000000000", w.keys)
	case w.partitions < 1:
		return usagef("--partitions is %d; want at least 1", w.partitions)
	case w.distribution != keysUniform && w.distribution != keysZipf:
		return usagef("--keys-distribution is %q; want %s or %s", w.distribution, keysUniform, keysZipf)
	case w.window < durationFlag(time.Millisecond):
		return usagef("--window is %s; want at least 1ms", spec.Duration(w.window))
	case w.slide < 0 || w.slide > w.window:
		return usagef("--slide is %s; want at most the window, %s", spec.Duration(w.slide), spec.Duration(w.window))
	case w.span < w.window:
		return usagef("--span is %s; want at least the window, %s", spec.Duration(w.span), spec.Duration(w.window))
	}
	return nil
}

// size, step, covered and disorder are in milliseconds of event time. An event comes up to disorder later than one that
// happened at the same time.
func (w *workload) size() int64    { return time.Duration(w.window).Milliseconds() }
func (w *workload) covered() int64 { return time.Duration(w.span).Milliseconds() }
func (w *workload) disorder() int64 {
	return max(1, min((30*time.Second).Milliseconds(), w.size()/4))
}

func (w *workload) step() int64 {
	if w.slide == 0 {
		return w.size()
	}
	return time.Duration(w.slide).Milliseconds()
}

// spec is the pipeline that is measured.
func (w *workload) spec(name string) string {
	return fmt.Sprintf(`
name: %[1]s
source: {topics: [%[1]s]}
event: {key: [user], time: {field: at, unit: ms}}
aggregates:
  events: {func: count}
  total:  {func: sum, field: amount, type: int}
  peak:   {func: max, field: amount}
windows: [{name: bench, size: %[2]dms, slide: %[3]dms}]
watermark: {out_of_orderness: %[4]dms}
results: {kafka: {topic: %[1]s.windows}}
`, name, w.size(), w.step(), w.outOfOrderness())
}

func (w *workload) outOfOrderness() int64 { return 2 * w.disorder() }

// workloadsHelp lists the workloads for a command's help.
func workloadsHelp() string {
	t := &table{}
	t.row("workload", "records", "keys", "partitions", "window", "span", "")
	for _, w := range workloads {
		t.row(w.name, w.records, w.keys, w.partitions, spec.Duration(w.window), spec.Duration(w.span), w.about)
	}
	var b strings.Builder
	_ = t.write(&b, "  ") // a strings.Builder takes everything
	return b.String()
}
