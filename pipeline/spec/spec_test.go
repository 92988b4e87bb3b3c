package spec

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write what the errors are now to the golden files")

// TestErrors holds the text of every error against a file beside its spec. Run with -update to write them.
func TestErrors(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.[yj]*")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			s, err := Parse(filepath.Base(file), data)
			require.Nil(t, s)
			var all Errors
			require.ErrorAs(t, err, &all)
			var one *Error
			require.ErrorAs(t, err, &one)
			golden := strings.TrimSuffix(file, filepath.Ext(file)) + ".golden"
			if *update {
				require.NoError(t, os.WriteFile(golden, []byte(err.Error()+"\n"), 0o600))
			}
			want, err := os.ReadFile(golden)
			require.NoError(t, err)
			require.Equal(t, string(want), all.Error()+"\n")
		})
	}
}

func examples(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("../../examples/*/*.yaml")
	require.NoError(t, err)
	more, err := filepath.Glob("../../examples/*/*.json")
	require.NoError(t, err)
	files = append(files, more...)
	require.GreaterOrEqual(t, len(files), 3)
	all := make(map[string][]byte)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		all[filepath.Base(file)] = data
	}
	return all
}

func TestExamples(t *testing.T) {
	for name, data := range examples(t) {
		t.Run(name, func(t *testing.T) {
			s, err := Parse(name, data)
			require.NoError(t, err)
			require.NoError(t, s.Validate())
			text, err := s.JSON()
			require.NoError(t, err)
			again, err := Parse("canonical", text)
			require.NoError(t, err)
			require.Equal(t, s, again)
			require.Equal(t, s.StateID(), again.StateID())
			var plain Spec // as a workflow's data converter reads it
			require.NoError(t, json.Unmarshal(text, &plain))
			require.Equal(t, s, &plain)
		})
	}
}

func parseFlights(t testing.TB) *Spec {
	t.Helper()
	s, err := Parse("flights.yaml", examples(t)["flights.yaml"])
	require.NoError(t, err)
	return s
}

func TestFlights(t *testing.T) {
	hour := Duration(time.Hour)
	require.Equal(t, &Spec{
		Name:   "flights",
		Source: Source{Topics: []string{"flights"}, Format: "json"},
		Event: Event{
			Key: []string{"origin"}, Time: EventTime{Field: "scheduled", Unit: "s"}, MaxFuture: hour, MaxKeyBytes: 1024, MaxValueBytes: 1010 << 10,
		},
		Aggregates: []Aggregate{
			{Name: "flights", Func: "count"},
			{Name: "delay_sum", Func: "sum", Field: "delay", Type: "int"},
			{Name: "delay_avg", Func: "avg", Field: "delay", Type: "float"},
			{Name: "delay_min", Func: "min", Field: "delay", Type: "float"},
			{Name: "delay_max", Func: "max", Field: "delay", Type: "float"},
			{Name: "last_to", Func: "last", Field: "destination", Type: "any"},
		},
		Windows:         []Window{{Name: "hourly", Size: hour, Slide: hour}},
		Watermark:       Watermark{OutOfOrderness: 4 * hour, IdleTimeout: Duration(5 * time.Second)},
		AllowedLateness: 6 * hour,
		Results:         Results{Sink: Sink{Kafka: &KafkaSink{Topic: "flights.windows"}}},
		Late:            Sink{Kafka: &KafkaSink{Topic: "flights.late"}},
		DeadLetter:      Sink{Kafka: &KafkaSink{Topic: "flights.dead"}},
		Retention:       Retention{Results: 7 * 24 * hour, Ledger: 90 * 24 * hour},
		Lane: Lane{
			CommitInterval: Duration(time.Second), ChunkFields: 512, CommitQueue: 1, MemoryLimit: 512 << 20, Buckets: 16,
			FetchBatches: 2, FetchBytes: 1 << 20, Overflow: OverflowBlock,
		},
		Replicas: 1,
	}, parseFlights(t))
}

func TestAnchorsAndSizes(t *testing.T) {
	s, err := Parse("x.yaml", []byte(`
name: a
source: {topics: [a]}
event: {key: &key [k], time: {field: at, unit: rfc3339}, max_key_bytes: 2KiB}
aggregates: {n: {func: count}}
windows: [{name: m, size: &minute 1m}, {name: s, size: 1d12h, slide: *minute}]
watermark: {idle_timeout: 0}
results: {kafka: {topic: a.windows}}
lane: {memory_limit: 2GiB, fetch_bytes: 65536}
`))
	require.Error(t, err) // 36 h in slides of a minute hold an event 2160 times
	require.Contains(t, err.Error(), "put one event into 2161 windows at once")
	require.Nil(t, s)
	s, err = Parse("x.yaml", []byte(`
name: a
source: {topics: [a]}
event: {key: [k], time: {field: at, unit: rfc3339}, max_key_bytes: 2KiB}
aggregates: {n: {func: count}}
windows: [{name: m, size: &five 5m}, {name: s, size: 1d12h, slide: *five}]
watermark: {idle_timeout: 0}
results: {kafka: {topic: a.windows}}
lane: {memory_limit: 2GiB, fetch_bytes: 65536, overflow: journal}
`))
	require.NoError(t, err)
	require.Equal(t, Duration(5*time.Minute), s.Windows[1].Slide)
	require.Equal(t, Duration(36*time.Hour), s.Windows[1].Size)
	require.Equal(t, Duration(0), s.Watermark.IdleTimeout)
	require.Equal(t, 2048, s.Event.MaxKeyBytes)
	require.Equal(t, int64(2<<30), s.Lane.MemoryLimit)
	require.Equal(t, 65536, s.Lane.FetchBytes)
	require.Equal(t, OverflowJournal, s.Lane.Overflow)
}

func TestStateID(t *testing.T) {
	flights := parseFlights(t)
	require.Regexp(t, `^[0-9a-f]{16}$`, flights.StateID())
	require.Equal(t, flights.StateID(), parseFlights(t).StateID())
	for name, change := range map[string]func(*Spec){
		"key":              func(s *Spec) { s.Event.Key = []string{"destination"} },
		"time field":       func(s *Spec) { s.Event.Time.Field = "reported" },
		"time unit":        func(s *Spec) { s.Event.Time.Unit = "ms" },
		"max_future":       func(s *Spec) { s.Event.MaxFuture++ },
		"max_key_bytes":    func(s *Spec) { s.Event.MaxKeyBytes++ },
		"max_value_bytes":  func(s *Spec) { s.Event.MaxValueBytes-- },
		"where":            func(s *Spec) { s.Where = "delay > 0" },
		"aggregates":       func(s *Spec) { s.Aggregates = s.Aggregates[1:] },
		"windows":          func(s *Spec) { s.Windows[0].Size *= 2 },
		"lateness":         func(s *Spec) { s.AllowedLateness++ },
		"out_of_orderness": func(s *Spec) { s.Watermark.OutOfOrderness++ },
		"buckets":          func(s *Spec) { s.Lane.Buckets *= 2 },
	} {
		s := parseFlights(t)
		change(s)
		require.NotEqual(t, flights.StateID(), s.StateID(), name)
	}
	for name, change := range map[string]func(*Spec){
		"name":     func(s *Spec) { s.Name = "other" },
		"topics":   func(s *Spec) { s.Source.Topics = append(s.Source.Topics, "more") },
		"idle":     func(s *Spec) { s.Watermark.IdleTimeout++ },
		"sinks":    func(s *Spec) { s.Late.Kafka = nil },
		"commit":   func(s *Spec) { s.Lane.CommitInterval++ },
		"replicas": func(s *Spec) { s.Replicas++ },
		"overflow": func(s *Spec) { s.Lane.Overflow = OverflowJournal },
		"kept":     func(s *Spec) { s.Retention = Retention{Results: Duration(time.Hour), Ledger: Duration(time.Hour)} },
	} {
		s := parseFlights(t)
		change(s)
		require.Equal(t, flights.StateID(), s.StateID(), name)
	}
}

func TestLayout(t *testing.T) {
	parse := func(redis string) (*Spec, error) {
		return Parse("x.yaml", []byte(`
name: a
source: {topics: [a]}
event: {key: [k], time: {field: at, unit: ms}}
aggregates: {n: {func: count}}
windows: [{name: m, size: 1m}]
results: {kafka: {topic: a.windows}`+redis+"}\n"))
	}
	plain, err := parse("")
	require.NoError(t, err)
	require.False(t, plain.Results.PlainRows())
	for _, redis := range []string{", redis: {}", ", redis: {layout: pages}"} {
		s, err := parse(redis)
		require.NoError(t, err)
		require.Equal(t, plain, s)
	}
	s, err := parse(", redis: {layout: rows}")
	require.NoError(t, err)
	require.True(t, s.Results.PlainRows())
	require.Equal(t, plain.StateID(), s.StateID())
	require.Equal(t, plain.Version(), s.Version(), "what is published is the same")
	text, err := s.JSON()
	require.NoError(t, err)
	require.Contains(t, string(text), `"results":{"kafka":{"topic":"a.windows"},"redis":{"layout":"rows"}}`)
	again, err := Parse("x.json", text)
	require.NoError(t, err)
	require.Equal(t, s, again)

	for redis, want := range map[string]string{
		", redis: {layout: row}":   `x.yaml:7:54: results.redis.layout: "row" is no layout; want pages or rows`,
		", redis: rows":            `x.yaml:7:45: results.redis: "rows" is a text, not a mapping; want e.g. {layout: rows}`,
		", redis: {layouts: rows}": `x.yaml:7:46: results.redis: "layouts" is no field here (did you mean layout?)`,
	} {
		_, err := parse(redis)
		require.ErrorContains(t, err, want)
	}
}

func TestRetention(t *testing.T) {
	parse := func(retention string) (*Spec, error) {
		return Parse("x.yaml", []byte(`
name: a
source: {topics: [a]}
event: {key: [k], time: {field: at, unit: ms}}
aggregates: {n: {func: count}}
windows: [{name: m, size: 1m}]
results: {kafka: {topic: a.windows}}
retention: `+retention+"\n"))
	}
	s, err := parse("{results: 30s}")
	require.NoError(t, err)
	require.Equal(t, Retention{Results: Duration(30 * time.Second), Ledger: Duration(90 * 24 * time.Hour)}, s.Retention)
	s, err = parse("{results: 1d12h, ledger: 36h}")
	require.NoError(t, err)
	require.Equal(t, s.Retention.Results, s.Retention.Ledger)

	for retention, want := range map[string]string{
		"{results: 0s}":                `retention.results: "0s" is out of range; want 1s to 3650d; nothing is kept for ever`,
		"{results: never}":             `retention.results: "never" is not a duration`,
		"{results: 1500ms}":            `retention.results: "1500ms" is finer than a second; want whole seconds`,
		"{ledger: 4000d}":              `retention.ledger: "4000d" is out of range`,
		"{ledger: 6d}":                 `retention.ledger: "6d" is shorter than retention.results, which is 7d; want at least 7d`,
		"{result: 1d}":                 `retention: "result" is no field here (did you mean results?)`,
		"7d":                           `retention: "7d" is a text, not a mapping; want e.g. {results: 7d, ledger: 90d}`,
		"{results: 100d}":              `retention.ledger: "90d" is the default, and is shorter than retention.results, which is 100d; want retention.ledger given: at least 100d`,
		"{results: 100d, ledger: 90d}": `retention.ledger: "90d" is shorter than retention.results, which is 100d; want at least 100d`,
		"{results: 1h, ledger: -30m}":  `retention.ledger: "-30m" is out of range`,
	} {
		_, err := parse(retention)
		require.ErrorContains(t, err, want, retention)
	}
	_, err = parse("{results: 4000d}")
	require.EqualError(t, err, `x.yaml:8:22: retention.results: "4000d" is out of range; want 1s to 3650d; nothing is kept for ever`)
	s = parseFlights(t)
	s.Retention = Retention{Results: Duration(4000 * day), Ledger: Duration(day)}
	require.EqualError(t, s.Validate(), `flights: retention.results: "4000d" is out of range; want 1s to 3650d; nothing is kept for ever`)
}

// What is wrong with a value shows it as it was written, and what would be valid in the units of the file.
func TestErrorsShowWhatWasWritten(t *testing.T) {
	parse := func(event, window, lane string) (*Spec, error) {
		return Parse("x.yaml", []byte(`
name: a
source: {topics: [a]}
event: {key: [k], time: {field: at, unit: ms}`+event+`}
aggregates: {v: {func: last, field: v}}
windows: [{name: m`+window+`}]
results: {kafka: {topic: a.windows}}
lane: {`+lane+"}\n"))
	}
	const size = ", size: 1m"
	for _, c := range []struct{ event, window, lane, want string }{
		{", max_value_bytes: 0", size, "", `event.max_value_bytes: "0" is out of range; want at least 1, or no such field for as much as fits`},
		{", max_value_bytes: 0KiB", size, "", `event.max_value_bytes: "0KiB" is out of range`},
		{", max_value_bytes: 64MiB", size, "", `event.max_value_bytes: "64MiB" makes result rows of more than 64MiB: 1 aggregate keeps a text; want 1 to 65522KiB`},
		{", max_value_bytes: 65MiB", size, "", `event.max_value_bytes: "65MiB" makes`},
		{", max_value_bytes: 3000GiB", size, "", `event.max_value_bytes: "3000GiB" makes`},
		{", max_key_bytes: 0", size, "", `event.max_key_bytes: "0" is out of range; want 1 to 64KiB`},
		{", max_key_bytes: 65KiB", size, "", `event.max_key_bytes: "65KiB" is out of range; want 1 to 64KiB`},
		{", max_future: 87601h", size, "", `event.max_future: "87601h" is out of range; want 0s to 3650d`},
		{"", ", size: 0s", "", `windows[0].size: "0s" is out of range; want 1ms to 3650d`},
		{"", size + ", slide: 0s", "", `windows[0].slide: "0s" is out of range; want 1ms to 3650d`},
		{"", size + ", slide: 61000ms", "", `windows[0].slide: "61000ms" is longer than the size 1m`},
		{"", size, "memory_limit: 0", `lane.memory_limit: "0" is out of range; want 1MiB to 1024GiB`},
		{"", size, "fetch_bytes: 2GiB", `lane.fetch_bytes: "2GiB" is out of range; want 1KiB to 1GiB`},
		{"", size, "commit_interval: 0s", `lane.commit_interval: "0s" is out of range; want 1ms to 3650d`},
		{"", size, "buckets: 0", `lane.buckets: "0" is not a number of buckets`},
	} {
		_, err := parse(c.event, c.window, c.lane)
		require.ErrorContains(t, err, c.want)
		var all Errors
		require.ErrorAs(t, err, &all)
		require.Len(t, all, 1, "%v", err)
	}
	s, err := parse(", max_value_bytes: 65522KiB", size, "")
	require.NoError(t, err)
	require.LessOrEqual(t, s.RecordBytes(), MaxRecordBytes)
	require.Empty(t, s.Notes())
}

// The state id is in every Redis key: a change of it gives up all state, so it must never happen by accident.
func TestStateIDIsStable(t *testing.T) {
	require.Equal(t, "42b12051592c7784", parseFlights(t).StateID())
}

func TestValidateWithoutAFile(t *testing.T) {
	s := parseFlights(t)
	s.Replicas = 0
	s.Aggregates[1].Type = "text"
	var errs Errors
	require.ErrorAs(t, s.Validate(), &errs)
	require.EqualError(t, errs, `flights: aggregates[1].type: "text" is not a type of sum; want one of float, int`+"\n"+
		`flights: replicas: "0" is out of range; want 1 to 256`)
}

func TestTooLong(t *testing.T) {
	_, err := Parse("x.yaml", make([]byte, MaxFileBytes+1))
	require.EqualError(t, err, "x.yaml: is longer than 1 MiB; want a pipeline as YAML or JSON")
}

func TestErrorsAreBounded(t *testing.T) {
	_, err := Parse("x.yaml", []byte("name: a\n"+strings.Repeat("x: 1\n", 1000)))
	var errs Errors
	require.True(t, errors.As(err, &errs))
	require.LessOrEqual(t, len(errs), maxErrors)
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "1h": time.Hour, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "1d": day, "2d12h": 60 * time.Hour,
		"-1d1h": -25 * time.Hour, "1.5h": 90 * time.Minute, "106751d": 106751 * day,
	} {
		got, err := ParseDuration(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got.Std(), text)
	}
	for _, text := range []string{"", "1", "1x", "d", "1.5d", "1d-1h", "1d1d", "1d+1h", "106752d", "106751d24h", "99999999999999999999d", "h"} {
		_, err := ParseDuration(text)
		require.Error(t, err, text)
	}
	for want, d := range map[string]time.Duration{
		"0s": 0, "1h": time.Hour, "1h30m": 90 * time.Minute, "1h0m5s": time.Hour + 5*time.Second, "10m": 10 * time.Minute, "1d": day,
		"1d1h": 25 * time.Hour, "100d30s": 100*day + 30*time.Second, "-1d1h": -25 * time.Hour, "1.5s": 1500 * time.Millisecond, "-2d": -2 * day,
	} {
		require.Equal(t, want, Duration(d).String())
	}
	text, err := (Duration(25 * time.Hour)).MarshalText()
	require.NoError(t, err)
	require.Equal(t, "25h", string(text), "the canonical form is in the state id")
}

func FuzzDuration(f *testing.F) {
	f.Add(int64(3_600_000_000_000))
	f.Fuzz(func(t *testing.T, ns int64) {
		got, err := ParseDuration(Duration(ns).String())
		require.NoError(t, err)
		require.Equal(t, Duration(ns), got)
		text, err := Duration(ns).MarshalText()
		require.NoError(t, err)
		require.NoError(t, got.UnmarshalText(text))
		require.Equal(t, Duration(ns), got)
	})
}

// FuzzParse checks that nothing makes the parser panic, and that the canonical form of whatever it accepts reads back
// the same.
func FuzzParse(f *testing.F) {
	for _, data := range examples(f) {
		f.Add(data)
		s, err := Parse("x", data)
		require.NoError(f, err)
		text, err := s.JSON()
		require.NoError(f, err)
		f.Add(text)
	}
	files, err := filepath.Glob("testdata/bad/*.[yj]*")
	require.NoError(f, err)
	for _, file := range files {
		data, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("x", data)
		if err != nil {
			var errs Errors
			require.ErrorAs(t, err, &errs)
			require.NotEmpty(t, errs)
			require.NotEmpty(t, errs.Error())
			return
		}
		require.NoError(t, s.Validate())
		text, err := s.JSON()
		require.NoError(t, err)
		again, err := Parse("y", text)
		require.NoError(t, err, string(text))
		require.Equal(t, s, again)
	})
}
