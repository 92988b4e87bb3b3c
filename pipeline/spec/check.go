package spec

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/pipeline/where"
)

// Bounds on what a pipeline may ask for.
const (
	maxAggregates = 256
	maxKeyFields  = 16
	maxList       = 1000
	maxReplicas   = 256
	maxBuckets    = 1024
	maxStreak     = 1_000_000
	maxDuration   = Duration(3650 * day)
	minRetention  = Duration(time.Second)

	minMemory = 1 << 20
	maxMemory = 1 << 40
)

// missing is the problem of a required field; a reader that knows the field to be there says "is empty" instead.
const missing = "is missing"

// What would be valid, where several places say the same.
const (
	wantName      = "1 to 64 of a-z 0-9 . _ - beginning with a letter or digit, such as flights or per-hour"
	wantAggregate = "1 to 64 letters, digits, _ or -, beginning with a letter, such as total_amount"
	wantTopic     = "a Kafka topic: 1 to 249 of a-z A-Z 0-9 . _ -"
	wantPath      = "a field name, with dots to reach nested fields, such as amount or order.customer.id"
	wantUnit      = "s, ms, us, ns (a number since 1970) or rfc3339 (a text)"
	wantStreak    = "1 to 1000000"
	wantBuckets   = "a power of two from 1 to 1024"
	wantOverflow  = "block or journal"
	wantLayout    = "pages or rows"
	wantWhere     = "an expression that gives true or false, such as amount > 10 && country == \"DE\""
)

func wantCount(most int) string { return fmt.Sprintf("1 to %d", most) }

var (
	namePattern      = regexp.MustCompile(`^[a-z0-9][a-z0-9_.-]{0,63}$`)
	aggregatePattern = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	elementPattern   = regexp.MustCompile(`\[-?[0-9*]*\](\.|$)`)
	topicPattern     = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)
)

// report takes one thing that is wrong: the field's path, the value as text, the problem and what would be valid.
type report func(path, value, problem, want string)

// Validate checks a Spec that was built rather than parsed. Defaults must be in place. The error is of type Errors.
func (s *Spec) Validate() error {
	var errs Errors
	check(s, func(path, value, problem, want string) {
		errs = append(errs, &Error{File: s.Name, Field: path, Value: shorten(value), Problem: problem, Want: want})
	})
	if len(errs) > 0 {
		return errs
	}
	return nil
}

func check(s *Spec, fail report) {
	checkName("name", s.Name, fail)
	checkTopics(s, fail)
	checkEvent(&s.Event, fail)
	if s.Where != "" {
		checkWhere(s.Where, fail)
	}
	checkAggregates(s, fail)
	checkSizes(s, fail)
	checkPaths(s, fail)
	checkWindows(s.Windows, fail)
	checkDuration("watermark.out_of_orderness", s.Watermark.OutOfOrderness, 0, fail)
	checkDuration("watermark.idle_timeout", s.Watermark.IdleTimeout, 0, fail)
	checkDuration("allowed_lateness", s.AllowedLateness, 0, fail)
	checkRetention(s.Retention, fail)
	checkRollups(s, fail)
	checkArchive(s.Archive, fail)
	checkLane(&s.Lane, fail)
	checkInt("replicas", int64(s.Replicas), 1, maxReplicas, fail)
}

func checkWhere(expression string, fail report) {
	var refused *where.Error
	if _, err := where.Compile(expression); errors.As(err, &refused) {
		fail("where", expression, refused.Problem, cmp.Or(refused.Want, wantWhere))
	}
}

// CheckName says whether a pipeline can have this name, and if not what would be valid.
func CheckName(name string) error {
	if !namePattern.MatchString(name) {
		return fmt.Errorf("%q is not a name; want %s", name, wantName)
	}
	return nil
}

// CheckTopic says whether a topic can have this name, and if not what would be valid.
func CheckTopic(name string) error {
	if !isTopic(name) {
		return fmt.Errorf("%q is not a topic name; want %s", name, wantTopic)
	}
	return nil
}

func isTopic(name string) bool { return topicPattern.MatchString(name) && name != "." && name != ".." }

func checkName(path, name string, fail report) {
	switch {
	case name == "":
		fail(path, "", missing, wantName)
	case !namePattern.MatchString(name):
		fail(path, name, "is not a name", wantName)
	}
}

func checkTopics(s *Spec, fail report) {
	used := make(map[string]string) // topic -> the field that has it
	topic := func(path, name string) {
		switch {
		case name == "":
			fail(path, "", missing, wantTopic)
		case !isTopic(name):
			fail(path, name, "is not a topic name", wantTopic)
		case used[name] != "":
			fail(path, name, "is also "+used[name], "a topic of its own")
		default:
			used[name] = path
		}
	}
	if len(s.Source.Topics) == 0 {
		fail("source.topics", "", missing, "at least one topic, such as [orders]")
	}
	if s.Name != "" {
		used[s.Name+".ledger"] = "the pipeline's ledger topic"
		if len(s.Rollups) > 0 {
			used[s.Name+".states"] = "the pipeline's states topic"
		}
	}
	for i, name := range s.Source.Topics {
		topic(fmt.Sprintf("source.topics[%d]", i), name)
	}
	if s.Source.Format != "json" {
		fail("source.format", s.Source.Format, "is not a format", "json")
	}
	if s.Results.Kafka == nil {
		fail("results.kafka", "", missing, "a topic, such as {kafka: {topic: orders.windows}}")
	}
	if redis := s.Results.Redis; redis != nil && redis.Layout != LayoutPages && redis.Layout != LayoutRows {
		fail("results.redis.layout", redis.Layout, "is no layout", wantLayout)
	}
	for _, sink := range []struct {
		path string
		Sink
	}{{"results", s.Results.Sink}, {"late", s.Late}, {"dead_letter", s.DeadLetter}} {
		if sink.Kafka != nil {
			topic(sink.path+".kafka.topic", sink.Kafka.Topic)
		}
	}
}

func checkEvent(e *Event, fail report) {
	if len(e.Key) == 0 {
		fail("event.key", "", missing, "at least one field, such as [customer]")
	}
	if len(e.Key) > maxKeyFields {
		fail("event.key", "", fmt.Sprintf("has %d fields", len(e.Key)), wantCount(maxKeyFields))
	}
	for i, name := range e.Key {
		path := fmt.Sprintf("event.key[%d]", i)
		checkPath(path, name, fail)
		if name != "" && slices.Contains(e.Key[:i], name) {
			fail(path, name, "is given twice", "each key field once")
		}
	}
	checkPath("event.time.field", e.Time.Field, fail)
	switch e.Time.Unit {
	case "s", "ms", "us", "ns", "rfc3339":
	case "":
		fail("event.time.unit", "", missing, wantUnit)
	default:
		fail("event.time.unit", e.Time.Unit, "is not a unit", wantUnit)
	}
	checkDuration("event.max_future", e.MaxFuture, 0, fail)
	checkDuration("event.max_past", e.MaxPast, 0, fail)
	checkJump(e, fail)
	checkBytes("event.max_key_bytes", int64(e.MaxKeyBytes), 1, 1<<16, fail)
}

// checkJump refuses a bound on refused jumps where no jump is refused.
func checkJump(e *Event, fail report) {
	const streak = "event.max_jump_streak"
	checkDuration("event.max_jump", e.MaxJump, 0, fail)
	switch {
	case e.MaxJump > 0:
		checkInt(streak, int64(e.MaxJumpStreak), 1, maxStreak, fail)
	case e.MaxJumpStreak != 0:
		fail(streak, strconv.Itoa(e.MaxJumpStreak), "counts nothing without event.max_jump", "event.max_jump as well, such as 1h")
	}
}

// checkSizes proves that every result row fits a record that Kafka can be made to take.
func checkSizes(s *Spec, fail report) {
	const path = "event.max_value_bytes"
	given := s.Event.MaxValueBytes
	if most := s.valueBytes(MaxRecordBytes); s.texts() > 0 && given > most {
		keepers := "1 aggregate keeps a text"
		if n := s.texts(); n > 1 {
			keepers = fmt.Sprintf("%d aggregates keep a text", n)
		}
		fail(path, bytesText(int64(given)), fmt.Sprintf("makes result rows of more than %s: %s", bytesText(MaxRecordBytes), keepers),
			"1 to "+bytesText(int64(most)))
		return
	}
	if s.texts() > 0 {
		checkBytes(path, int64(given), 1, MaxRecordBytes, fail)
	}
}

// checkRetention also refuses to give up a row before the contents that only the row can vouch for.
func checkRetention(r Retention, fail report) {
	checkKept("retention.results", r.Results, fail)
	checkKept("retention.ledger", r.Ledger, fail)
	if r.Ledger < r.Results && r.Ledger >= minRetention && r.Results <= maxDuration {
		fail("retention.ledger", r.Ledger.String(), "is shorter than retention.results, which is "+r.Results.String(),
			"at least "+r.Results.String())
	}
}

// checkKept checks how long something is kept.
func checkKept(path string, d Duration, fail report) {
	switch {
	case d < minRetention || d > maxDuration:
		fail(path, d.String(), "is out of range", fmt.Sprintf("%s to %s; nothing is kept for ever", minRetention, maxDuration))
	case d%minRetention != 0:
		fail(path, d.String(), "is finer than a second", "whole seconds")
	}
}

func checkLane(l *Lane, fail report) {
	checkDuration("lane.commit_interval", l.CommitInterval, Duration(time.Millisecond), fail)
	checkInt("lane.chunk_fields", int64(l.ChunkFields), 1, 10_000, fail)
	checkInt("lane.commit_queue", int64(l.CommitQueue), 1, 2, fail)
	checkBytes("lane.memory_limit", l.MemoryLimit, minMemory, maxMemory, fail)
	if l.Buckets < 1 || l.Buckets > maxBuckets || l.Buckets&(l.Buckets-1) != 0 {
		fail("lane.buckets", strconv.Itoa(l.Buckets), "is not a number of buckets", wantBuckets)
	}
	checkInt("lane.fetch_batches", int64(l.FetchBatches), 1, 1024, fail)
	checkBytes("lane.fetch_bytes", int64(l.FetchBytes), 1<<10, 1<<30, fail)
	if l.Overflow != OverflowBlock && l.Overflow != OverflowJournal {
		fail("lane.overflow", l.Overflow, "is no policy", wantOverflow)
	}
}

func checkInt(path string, value, least, most int64, fail report) {
	if value < least || value > most {
		fail(path, strconv.FormatInt(value, 10), "is out of range", fmt.Sprintf("%d to %d", least, most))
	}
}

// checkBytes is checkInt in the units of sizes.
func checkBytes(path string, value, least, most int64, fail report) {
	if value < least || value > most {
		fail(path, bytesText(value), "is out of range", bytesText(least)+" to "+bytesText(most))
	}
}

// bytesText renders a number of bytes in the largest unit that leaves a whole number: 64MiB, 65522KiB.
func bytesText(n int64) string {
	for _, unit := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= unit.size && n%unit.size == 0 {
			return strconv.FormatInt(n/unit.size, 10) + unit.name
		}
	}
	return strconv.FormatInt(n, 10)
}

func checkDuration(path string, d, least Duration, fail report) {
	switch {
	case d < least || d > maxDuration:
		fail(path, d.String(), "is out of range", fmt.Sprintf("%s to %s", least, maxDuration))
	case d%Duration(time.Millisecond) != 0:
		fail(path, d.String(), "is finer than a millisecond", "whole milliseconds")
	}
}

// checkPath checks one dotted path.
func checkPath(path, name string, fail report) {
	switch {
	case name == "":
		fail(path, "", missing, wantPath)
	case slices.Contains(strings.Split(name, "."), ""):
		fail(path, name, "has an empty part between its dots", wantPath)
	case elementPattern.MatchString(name):
		fail(path, name, "names an element of a list, which a path cannot reach", wantPath)
	case len(name) > 1024 || strings.Count(name, ".") >= 32:
		fail(path, name, "is too long a path", "up to 1024 bytes and 32 parts")
	}
}
