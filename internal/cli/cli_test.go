package cli

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"
	"go.uber.org/goleak"

	"millrace/internal/connect"
	"millrace/internal/contract"
	"millrace/internal/dev"
	"millrace/pipeline/ledger"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}

// millrace runs the command line as a user would.
func millrace(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	for _, name := range []string{connect.EnvKafkaBrokers, connect.EnvRedisAddrs} {
		t.Setenv(name, os.Getenv("CLI_TEST_"+name))
	}
	t.Setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
	var o, e bytes.Buffer
	code = Main(t.Context(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestUsage(t *testing.T) {
	good := "../../examples/flights/flights.yaml"
	bad := filepath.Join(t.TempDir(), "bad.yaml")
	require.NoError(t, os.WriteFile(bad, []byte("name: X\n"), 0o600))
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"start", ExitUsage, "millrace: FILE is missing; usage: millrace start FILE"},
		{"start a b", ExitUsage, `millrace: "b" is too much`},
		{"start --nonsense", ExitUsage, "unknown flag: --nonsense; see millrace start --help"},
		{"start " + good, ExitUnreachable, "millrace: Temporal at 127.0.0.1:1 does not answer: start it, or give --temporal HOST:PORT"},
		{"start missing.yaml", ExitUsage, "millrace: cannot read the spec: open missing.yaml"},
		{"spec check " + bad, ExitUsage, `bad.yaml:1:7: name: "X" is not a name`},
		{"spec preview " + good, ExitUsage, "--feed is missing"},
		{"feed x.jsonl", ExitUsage, "--topic is missing"},
		{"dev --spec " + good + " --feed missing.jsonl", ExitUsage, "cannot read the feed: open missing.jsonl"},
		{"dev --spec " + good + " --drain --results none/out.jsonl", ExitUsage, "--results: write results: open none/"},
		{"feed x.jsonl --topic t", ExitUsage, "Kafka is not configured: give --kafka HOST:PORT or set MILLRACE_KAFKA_BROKERS"},
		{"feed x.jsonl --topic t/u", ExitUsage, `--topic: "t/u" is not a topic name; want a Kafka topic`},
		{"feed x.jsonl --topic t --from-line 0", ExitUsage, "--from-line is 0"},
		{"feed x.jsonl --topic t --kafka 127.0.0.1:1", ExitUnreachable, "127.0.0.1:1"},
		{"windows get p hourly yesterday", ExitUsage, `START is "yesterday"; want RFC 3339`},
		{"status --check", ExitUsage, "--check needs NAME"},
		{"status p in/0 --check", ExitUsage, "--check is about the whole pipeline; leave in/0 out"},
		{"scale p many", ExitUsage, `REPLICAS is "many"`},
		{"scale p 0", ExitUsage, "replicas is 0; want 1 to"},
		{"scale p -12", ExitUsage, "-12 is no flag, and no argument may be negative; usage: millrace scale NAME REPLICAS"},
		{"stop p --timeout 10s", ExitUsage, "--timeout is only for a drain; give --drain as well"},
		{"rm", ExitUsage, "NAME is missing; usage: millrace rm NAME"},
		{"rm p", ExitUsage, "there is no terminal to ask on: look with --dry-run, then give --yes"},
		{"rm p --yes --grace 10ms", ExitUsage, "--grace is 10ms; want whole seconds, 1s to 1d"},
		{"rm p --yes --grace 100h", ExitUsage, "--grace is 4d4h; want whole seconds, 1s to 1d"},
		{"rm p --grace 100h", ExitUsage, "--grace is 4d4h; want whole seconds, 1s to 1d"},
		{"rm p --yes --grace 0s", ExitUsage, "--grace is 0s; want whole seconds, 1s to 1d"},
		{"rm p --yes --grace 1500ms", ExitUsage, "--grace is 1.5s; want whole seconds"},
		{"rm p --yes --grace 1w", ExitUsage, `millrace: --grace: "1w" is not a duration; want a number with its unit, such as 90s, 10m or 1d`},
		{"rm p --yes --grace 1d", ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"rm Bad/Name --yes", ExitUsage, `pipeline: "Bad/Name" is not a name; want 1 to 64 of a-z 0-9 . _ -`},
		{"stop p --drain --timeout 8d", ExitUsage, "--timeout is 8d; want whole seconds, 0s to 7d"},
		{"stop p --drain --timeout 1d", ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"rm p --yes --spec " + good, ExitUsage, "describes pipeline flights, not p"},
		{"rm p --yes", ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"recover ls", ExitUsage, "NAME is missing; usage: millrace recover ls NAME"},
		{"recover decide w orders skip", ExitUsage, `TOPIC/PARTITION is "orders"; want a topic and a partition, such as flights/3`},
		{"recover decide w orders/-1 skip", ExitUsage, `TOPIC/PARTITION is "orders/-1"`},
		{"recover show w", ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"degrade hold", ExitUsage, "NAME is missing; usage: millrace degrade hold NAME"},
		{"degrade status p", ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"wal replay p --rate fast", ExitUsage, `"fast" is no size`},
		{"wal replay p", ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"wal decide p skip", ExitUsage, `choice is "skip"; want "quarantine"`},
		{"wal decide p abort", ExitUsage, "--disk is missing"},
		{"status p", ExitUnreachable, "Temporal at 127.0.0.1:1 does not answer"},
		{"verify p --spec " + good, ExitUsage, "describes pipeline flights, not p"},
		{"verify flights --spec " + good, ExitUsage, "Kafka is not configured"},
		{"bench --records 1", ExitUsage, "--records is 1; want at least 1000"},
		{"dev --drain", ExitUsage, "--feed and --drain need --spec"},
		{"dev --results x --spec " + good, ExitUsage, "--results needs --drain"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, out, errs := millrace(t, strings.Fields(c.args)...)
			require.Equal(t, c.code, code, errs)
			require.Contains(t, errs, c.says)
			require.Empty(t, out)
		})
	}
}

func TestEveryCommandHasHelp(t *testing.T) {
	for _, cmd := range New(io.Discard, io.Discard).Commands() {
		require.NotEmpty(t, cmd.Short, cmd.Name())
		if !cmd.HasSubCommands() {
			require.NotEmpty(t, cmd.Example, cmd.Name())
		}
		for _, sub := range cmd.Commands() {
			require.NotEmpty(t, sub.Short, sub.CommandPath())
		}
	}
}

func TestSpecCheckAndJSON(t *testing.T) {
	const good = "../../examples/flights/flights.yaml"
	code, out, _ := millrace(t, "spec", "check", good)
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, "is valid: pipeline flights, key origin, 6 aggregates, windows hourly (1h), state ")

	code, out, _ = millrace(t, "spec", "check", good, "--json")
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, `{"ok":true,"name":"flights"`)

	vain := filepath.Join(t.TempDir(), "vain.yaml")
	text, err := os.ReadFile("../../examples/flights/flights.yaml")
	require.NoError(t, err)
	changed := regexp.MustCompile(`(?m)^.*func: last.*\n`).ReplaceAllString(string(text), "")
	changed = strings.Replace(changed, "event:\n", "event:\n  max_value_bytes: 10MiB\n", 1)
	require.NoError(t, os.WriteFile(vain, []byte(changed), 0o600))
	const note = "event.max_value_bytes 10MiB has no effect: no aggregate publishes a text, as first and last do"
	code, out, _ = millrace(t, "spec", "check", vain)
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, "\nnote: "+note+"\n")
	code, out, _ = millrace(t, "spec", "check", vain, "--json")
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, `"notes":["`+note+`"]`)

	code, canonical, _ := millrace(t, "spec", "json", good)
	require.Equal(t, ExitOK, code)
	file := filepath.Join(t.TempDir(), "canonical.json")
	require.NoError(t, os.WriteFile(file, []byte(canonical), 0o600))
	code, again, _ := millrace(t, "spec", "json", file)
	require.Equal(t, ExitOK, code)
	require.Equal(t, canonical, again)
}

func TestExitCodes(t *testing.T) {
	require.Equal(t, ExitOK, Code(nil))
	require.Equal(t, ExitFailed, Code(errors.New("x")))
	require.Equal(t, ExitInterrupted, Code(fmt.Errorf("reading: %w", context.Canceled)))
	require.Equal(t, ExitIncomplete, Code(fmt.Errorf("x: %w", incompletef("y"))))
	require.Equal(t, ExitUsage, Code(unreachablef("who polls: %w", serviceerror.NewNamespaceNotFound("x"))))
}

func TestReport(t *testing.T) {
	for want, err := range map[string]error{
		"millrace: interrupted\n":             fmt.Errorf("list topics: %w", context.Canceled),
		"millrace: interrupted: it goes on\n": fmt.Errorf("start: %w", interruptedf("it goes %s", "on")),
		"millrace: one\nmillrace: two\n":      errors.Join(errors.New("one"), errors.New("two")),
		"millrace: Temporal has no namespace \"x\": give --namespace, or set TEMPORAL_NAMESPACE\n": unreachablef("poll: %w",
			serviceerror.NewNamespaceNotFound("x")),
	} {
		var b bytes.Buffer
		Report(&b, err)
		require.Equal(t, want, b.String())
	}
	require.Equal(t, ExitInterrupted, Code(interruptedf("it goes on")))
	var b bytes.Buffer
	Report(&b, tellFeed(&shell{out: io.Discard}, feedDone{Records: 5, Next: 6, first: 1}, context.Canceled))
	require.Equal(t, "millrace: interrupted: go on with --from-line 6\n", b.String(), "a feed that was interrupted can be taken up")
}

func TestInterruptedRequests(t *testing.T) {
	cancelled := serviceerror.NewCanceled("context canceled")
	require.Equal(t, ExitInterrupted, Code(explain("p", cancelled)))
	require.Equal(t, ExitInterrupted, Code(explainWorkflow("pipeline:p", "", cancelled)))
}

func TestDurationFlagHelp(t *testing.T) {
	code, out, _ := millrace(t, "rm", "--help")
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, "1s to 24h (default 10m)")
	code, out, _ = millrace(t, "stop", "--help")
	require.Equal(t, ExitOK, code)
	require.Contains(t, out, "how long a drain may take, 1s to 7d (default 1h)\n")
}

func TestLines(t *testing.T) {
	dir := t.TempDir()
	text := "one\n\nthree\r\nlast"
	plain, packed := filepath.Join(dir, "a.jsonl"), filepath.Join(dir, "a.jsonl.gz")
	require.NoError(t, os.WriteFile(plain, []byte(text), 0o600))
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	require.NoError(t, z.Close())
	require.NoError(t, os.WriteFile(packed, b.Bytes(), 0o600))
	for _, name := range []string{plain, packed} {
		l, err := openLines(name)
		require.NoError(t, err)
		require.NoError(t, l.Skip(1))
		for _, want := range []string{"", "three\r", "last"} {
			line, err := l.Next()
			require.NoError(t, err)
			require.Equal(t, want, string(line))
		}
		_, err = l.Next()
		require.Equal(t, io.EOF, err)
		require.Equal(t, 1.0, l.Done())
		require.NoError(t, l.Close())
	}
	l, err := openLines(plain)
	require.NoError(t, err)
	defer l.Close()
	require.ErrorContains(t, l.Skip(9), "has only 4 lines; --from-line 10 is behind its end")
	require.NoError(t, os.WriteFile(packed, []byte("this is no gzip file"), 0o600))
	_, err = openLines(packed)
	require.ErrorContains(t, err, "gzip")
}

// startKafka makes the commands of this test find an embedded Kafka.
func startKafka(t *testing.T) *servers {
	t.Helper()
	k, err := dev.StartKafka(t.Context(), dev.KafkaConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	t.Setenv("CLI_TEST_"+connect.EnvKafkaBrokers, k.Addr())
	sh := &shell{out: io.Discard, err: io.Discard, conn: &connect.Options{Kafka: connect.KafkaOptions{Addrs: []string{k.Addr()}}}}
	srv, err := sh.connectKafka(t.Context())
	require.NoError(t, err)
	t.Cleanup(srv.Close)
	return srv
}

func TestFeed(t *testing.T) {
	srv := startKafka(t)
	file := filepath.Join(t.TempDir(), "feed.jsonl")
	var text strings.Builder
	for i := range 10 {
		fmt.Fprintf(&text, "%d\n", i)
	}
	require.NoError(t, os.WriteFile(file, []byte(text.String()), 0o600))

	code, _, errs := millrace(t, "feed", file, "--topic", "in")
	require.Equal(t, ExitFailed, code)
	require.Equal(t, "millrace: topic in does not exist; --create PARTITIONS creates it\n", errs)
	code, out, errs := millrace(t, "feed", file, "--topic", "in", "--create", "3")
	require.Equal(t, ExitOK, code, errs)
	require.Regexp(t, `^10 records \(10 bytes\) acknowledged in topic in, 3 partitions, in \d+\.\d s, \S+ records/s\n$`, out)
	code, _, errs = millrace(t, "feed", file, "--topic", "inn")
	require.Equal(t, ExitFailed, code)
	require.Contains(t, errs, "topic inn does not exist; did you mean in? --create PARTITIONS creates it")
	topics, err := srv.cluster.Topics(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"in"}, topics, "a mistyped name creates nothing")
	code, out, _ = millrace(t, "feed", file, "--topic", "in", "--from-line", "9", "--json")
	require.Equal(t, ExitOK, code)
	require.Regexp(t, `^{"topic":"in","partitions":3,"created":false,"records":2,"bytes":2,"next_line":11,`+
		`"seconds":\S+,"records_per_second":\S+}\n$`, out)
	code, _, errs = millrace(t, "feed", file, "--topic", "in", "--create", "4")
	require.Equal(t, ExitUsage, code)
	require.Contains(t, errs, "topic in has 3 partitions, not 4")

	got := map[int32]string{}
	f := newFollower(srv.cluster, "p", "in")
	for p := range int32(3) {
		_, err := f.kafka.ReadCommitted(t.Context(), partition("in", p), 0, collect(got, p))
		require.NoError(t, err)
	}
	// Line 9 has number 8 and belongs to partition 2, also in the second feed.
	require.Equal(t, map[int32]string{0: "03699", 1: "147", 2: "2588"}, got)
}

func TestFeedAtARate(t *testing.T) {
	startKafka(t)
	file := filepath.Join(t.TempDir(), "feed.jsonl")
	require.NoError(t, os.WriteFile(file, []byte(strings.Repeat("{}\n", 60)), 0o600))
	began := time.Now()
	code, out, errs := millrace(t, "feed", file, "--topic", "in", "--create", "2", "--rate", "50", "--json")
	require.Equal(t, ExitOK, code, errs)
	require.GreaterOrEqual(t, time.Since(began), 59*time.Second/50)
	var done feedDone
	require.NoError(t, json.Unmarshal([]byte(out), &done))
	require.EqualValues(t, 60, done.Records)
	require.LessOrEqual(t, done.Rate, 60*50.0/59)
	require.Positive(t, done.Rate)
}

func TestCounted(t *testing.T) {
	require.Equal(t, []string{"1 row", "0 rows", "2 entries", "1 entry", "3 keys"},
		[]string{counted(1, "row"), counted(int64(0), "row"), counted(uint64(2), "entry"), counted(1, "entry"), counted(3, "key")})
}

func TestReceipts(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		name    string
		receipt contract.Receipt
		says    []string
		code    int
	}{
		{"applied", contract.Receipt{Update: "pause", Generation: 3, RequestID: "r", Applied: true,
			Lanes: []report.LaneReceipt{{Topic: "in", Partition: 1, Offset: 5}}},
			[]string{"pause p: applied (generation 3, request r)", "committed in/1<5"}, ExitOK},
		{"missing", contract.Receipt{Update: "flush", Missing: []report.LaneMissing{{Topic: "in", Partition: 2, Offset: 7, Want: 9,
			Reason: "no owner"}}},
			[]string{"accepted, not applied everywhere", "MISSING in/2 at offset 7 of 9: no owner"}, ExitIncomplete},
		{"drained", contract.Receipt{Update: "stop", Applied: true, Drained: &yes,
			Emitted: &report.Emitted{Windows: 2, Published: 1, Keys: 3, Events: 4, Revisions: []report.ClosedWindow{
				{WindowRef: report.WindowRef{Window: "hourly"}, Revision: 1, Keys: 3, Events: 4}}}},
			[]string{"published 1 of 2 open windows: 3 rows, 4 events", "hourly 1970-01-01T00:00:00Z revision 1", "drained"}, ExitOK},
		{"one of each", contract.Receipt{Update: "flush", Applied: true,
			Emitted: &report.Emitted{Windows: 1, Published: 1, Keys: 1, Events: 1, Revisions: []report.ClosedWindow{
				{WindowRef: report.WindowRef{Window: "hourly"}, Revision: 1, Keys: 1, Events: 1}}}},
			[]string{"published 1 of 1 open window: 1 row, 1 event\n", "revision 1: 1 row, 1 event\n"}, ExitOK},
		{"not drained", contract.Receipt{Update: "stop", Drained: &no, Note: "lane in/0 is parked"},
			[]string{"note: lane in/0 is parked"}, ExitIncomplete},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			require.NoError(t, printReceipt(&b, "p", c.receipt))
			for _, text := range c.says {
				require.Contains(t, b.String(), text)
			}
			require.Equal(t, c.code, Code(unmet("p", c.receipt)))
		})
	}
}

func TestRows(t *testing.T) {
	row := ledger.ResultRow{Pipeline: "p", Window: "w", Start: 0, End: 1000, Key: json.RawMessage(`{"k":"a"}`), Revision: 2,
		Values: json.RawMessage(`{"n":3,"x":null}`)}
	file := filepath.Join(t.TempDir(), "out.jsonl")
	require.NoError(t, saveRows(file, []ledger.ResultRow{row}))
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, `{"pipeline":"p","window":"w","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:00:01Z","key":{"k":"a"},"revision":2,"values":{"n":3,"x":null}}`+"\n", string(text))
	require.ErrorContains(t, saveRows(filepath.Join(file, "below"), nil), "write results")

	var b bytes.Buffer
	require.NoError(t, drawRows(&b, []ledger.ResultRow{row}))
	require.Equal(t, "WINDOW  START                 k  REV  n  x\nw       1970-01-01T00:00:00Z  a    2  3  null\n", b.String())
}

func partition(topic string, p int32) source.TopicPartition {
	return source.TopicPartition{Topic: topic, Partition: p}
}

// collect appends the values of a partition.
func collect(got map[int32]string, p int32) func(source.Record) error {
	return func(r source.Record) error {
		got[p] += string(r.Value)
		return nil
	}
}
