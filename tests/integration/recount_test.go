package integration

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/pipeline/engine"
	"millrace/pipeline/lane"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/report"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow/found"
	"millrace/pipeline/verify"
	"millrace/tests/long"
	"millrace/tests/oracle"
	"millrace/tests/rig"
)

// seconds counts events by key in windows of a second. All entries of a slice stand in one hash.
const seconds = `
name: seconds
source: {topics: [seconds], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
aggregates:
  n: {func: count}
  v: {func: sum, field: v, type: int}
windows:
  - {name: second, size: 1s}
watermark: {out_of_orderness: 500ms, idle_timeout: 1s}
allowed_lateness: 1s
results:     {kafka: {topic: seconds.results}}
late:        {kafka: {topic: seconds.late}}
dead_letter: {kafka: {topic: seconds.dead}}
lane: {commit_interval: 100ms, buckets: 1}
`

// Some hundred final windows of many lanes are counted again: a partition was idle, one was added on the way, events were
// late, the only worker was killed and Redis emptied, so that every lane was rebuilt. The worker that counts is frozen in the
// middle and comes back when another one has gone on. All windows are equal. Then one place after the other is falsified, and
// each is named, with the keys; what was found is approved, and all windows are equal again.
func TestRecount(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int32{4, 16} {
		t.Run(fmt.Sprintf("partitions=%d", partitions), func(t *testing.T) {
			t.Parallel()
			rdb := rig.StartRedis(t)
			w := newWorld(t, rig.Servers{Redis: rdb.Addr})
			p := w.newPipeline(seconds, partitions-1)
			h := &recounting{pipeline: p, rdb: rdb.Client(), total: 330}
			if long.Wanted {
				h.total = 3300
			}
			h.live()
			h.equal()
			want := h.falsify()
			h.found(want)
			h.mended(len(want))
		})
	}
}

// recounting is a pipeline whose windows are counted again.
type recounting struct {
	*pipeline
	rdb    *redis.Client
	hot    *hotPath
	closer func() // stops closing windows
	total  int    // seconds that the events span

	approved int // windows that an approval has published again
}

// send sends the events of some seconds to all partitions but the last few, some of them late.
func (h *recounting) send(from, to int, idle int32) {
	h.T.Helper()
	for n := range h.Parts - idle {
		var values [][]byte
		for s := from; s < to; s++ {
			at := noon + int64(s)*1000
			values = append(values, fmt.Appendf(nil, `{"k":"k%d","t":%d,"v":%d}`, (s+int(n))%7, at+int64(n)*10, s))
			if s%10 == 9 {
				values = append(values, fmt.Appendf(nil, `{"k":"late","t":%d,"v":%d}`, at-int64(s%4)*1500, s))
			}
		}
		h.Send(n, values...)
	}
}

// live runs the pipeline until enough windows are final.
func (h *recounting) live() {
	t, third := h.T, h.total/3
	worker := h.Worker()
	h.Ready(worker)
	h.Start()
	h.send(0, 10, 0)
	h.send(10, third, 1)
	rig.Eventually(t, "windows are closed although a partition is idle", patience, func() bool { return h.window(third-5) != nil })
	h.hintsFollow()
	h.addPartition()
	worker.Kill()
	require.NoError(t, h.rdb.FlushAll(context.Background()).Err())
	// Whoever takes a static member over gets the partitions that it had.
	require.NoError(t, h.Cluster.RemoveMember(context.Background(), engine.Group(h.Spec.Name), engine.InstanceID(h.Spec.Name, 0)))

	h.hot = h.hotPath()
	known := int(h.Parts) - 1
	rig.Eventually(t, "all lanes that had a state are parked", patience, func() bool { return h.hot.count(lane.StateParked) == known })
	for _, l := range h.hot.engine.Status().Lanes {
		if l.Incident != nil {
			require.Equal(t, report.IncidentStateLost, l.Incident.Kind)
			name := laneName(l.Topic, l.Partition)
			require.NoError(t, h.hot.engine.Decide(context.Background(), name, l.Incident.ID, report.ChoiceRebuild, "test"))
		}
	}
	rig.Eventually(t, "all lanes go on", patience, func() bool { return h.hot.count(lane.StateRunning) == int(h.Parts) })
	h.close()
	h.send(third, 2*third, 2) // the last but one is idle, the last one has not begun
	h.Reach(h.Total())
	h.send(2*third, h.total, 0)
	h.Reach(h.Total())
	h.finalUpTo(h.total - 5)
}

// close closes windows from now on.
func (h *recounting) close() {
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- h.hot.closeWhile(stop) }()
	h.closer = func() {
		close(stop)
		require.NoError(h.T, <-ended)
	}
}

// finalUpTo waits until the window of a second is final.
func (h *recounting) finalUpTo(second int) {
	h.T.Helper()
	rig.Eventually(h.T, fmt.Sprintf("second %d is final", second), patience, func() bool {
		row := h.window(second)
		return row != nil && row.Final
	})
}

// addPartition makes the source topic longer by a partition.
func (h *recounting) addPartition() {
	h.T.Helper()
	topic := kmsg.NewCreatePartitionsRequestTopic()
	topic.Topic, topic.Count = h.Topic(), h.Parts+1
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 10_000
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(context.Background(), h.Raw)
	require.NoError(h.T, err)
	require.Len(h.T, resp.Topics, 1)
	require.NoError(h.T, kerr.ErrorForCode(resp.Topics[0].ErrorCode))
	h.Fed = append(h.Fed, oracle.Lane{Topic: h.Topic(), Partition: h.Parts})
	h.Parts++
	h.Raw.PurgeTopicsFromClient(h.Topic()) // it remembers how many there were
}

// equal counts all final windows again.
func (h *recounting) equal() {
	h.T.Helper()
	h.closer()
	res := h.Recount(true)
	require.GreaterOrEqual(h.T, res.Final, h.total-30)
	h.T.Logf("%d final windows; %d counted again with those that are empty, %d equal, %d refused (%s), the worker was killed: %t",
		res.Final, res.Windows, res.Equal, len(res.Refused), res.Reasons(), res.Killed)
	require.Empty(h.T, res.Wrong)
	require.Empty(h.T, res.Refused)
	require.GreaterOrEqual(h.T, res.Equal, res.Final)
	require.True(h.T, res.Killed)
}

// falsified is what is wrong with a window, by place: the keys.
type falsified map[ledger.WindowID]map[string][]string

// falsify falsifies an entry of a window that is not published yet, publishes everything, and falsifies what is published.
func (h *recounting) falsify() falsified {
	h.T.Helper()
	second := func(s int) ledger.WindowID { return ledger.WindowID{Window: "second", Start: noon + int64(s)*1000} }
	h.send(h.total, h.total+5, 0)
	a, b := h.total+5, noon+int64(h.total+5)*1000
	h.Send(0, fmt.Appendf(nil, `{"k":"one","t":%d,"v":1}`, b), fmt.Appendf(nil, `{"k":"two","t":%d,"v":2}`, b))
	h.Reach(h.Total())
	h.swapEntries(a, "one", "two")
	h.send(a+1, a+5, 0)
	h.hot.finish()

	// Redis forgot the views of windows that were closed before it was emptied, and shows those again that no floor covers yet.
	view := second(h.total/3 + 40)
	shown := h.falsifyView(view)
	h.falsifyResults(second(60))
	h.falsifyLedger(second(70), `"checksum":"`, func(v string) string { return flip(v) })
	h.falsifyLedger(second(80), `"events":`, func(v string) string { return "1" + v })
	both := []string{`{"k":"one"}`, `{"k":"two"}`}
	return falsified{
		second(a):  {report.PlaceLedger: nil, report.PlaceView: both, report.PlaceResults: both},
		view:       {report.PlaceView: {shown}},
		second(60): {report.PlaceResults: {`{"k":"k4"}`}},
		second(70): {report.PlaceLedger: nil},
		second(80): {report.PlaceLedger: nil},
	}
}

// flip makes the first hexadecimal digit another one.
func flip(text string) string {
	digit := "0"
	if text[0] == '0' {
		digit = "1"
	}
	return digit + text[1:]
}

// swapEntries gives two keys of a second in the first lane each other's entry in Redis, as if the lane had folded that.
func (h *recounting) swapEntries(second int, one, two string) {
	h.T.Helper()
	slice := fmt.Sprintf(":1000:%d:0", noon+int64(second)*1000)
	for _, key := range h.keys("mr:{" + h.Lane(0).String() + "}:p:") {
		if !strings.HasSuffix(key, slice) {
			continue
		}
		rig.SwapEntries(h.T, h.rdb, key, h.Spec.StateID(), func(keys []string) (first, second string) {
			for _, key := range keys {
				if strings.Contains(key, one) {
					first = key
				}
				if strings.Contains(key, two) {
					second = key
				}
			}
			return first, second
		})
		return
	}
	require.Fail(h.T, "no pages of the slice", "%s", slice)
}

func (h *recounting) keys(prefix string) []string {
	keys, err := h.rdb.Keys(context.Background(), strings.NewReplacer("{", "\\{", "}", "\\}").Replace(prefix)+"*").Result()
	require.NoError(h.T, err)
	slices.Sort(keys)
	return keys
}

// falsifyView gives a key of a window another sum in Redis, and returns the key.
func (h *recounting) falsifyView(id ledger.WindowID) (key string) {
	h.T.Helper()
	ctx := context.Background()
	keys := h.keys(fmt.Sprintf("mr:{%s/%s/%d}:v:", h.Spec.Name, id.Window, id.Start))
	require.Len(h.T, keys, 1)
	pages, err := h.rdb.HGetAll(ctx, keys[0]).Result()
	require.NoError(h.T, err)
	for field, text := range pages {
		page := []byte(text)
		at := bytes.Index(page, []byte(`"v":`))
		if at < 0 {
			continue // the directory
		}
		page[at+len(`"v":`)] ^= 1 // another digit
		require.NoError(h.T, h.rdb.HSet(ctx, keys[0], field, page).Err())
		from := bytes.Index(page, []byte(`{"k":`))
		to := from + bytes.IndexByte(page[from:], '}') + 1
		return string(page[from:to])
	}
	require.Fail(h.T, "no page", "%s", id)
	return ""
}

// falsifyResults sends a row of a window once more, with another sum.
func (h *recounting) falsifyResults(id ledger.WindowID) {
	h.T.Helper()
	for _, r := range h.Read(h.Spec.Results.Kafka.Topic) {
		var row ledger.ResultRow
		require.NoError(h.T, row.UnmarshalJSON(r.Value))
		if row.Start != id.Start || !bytes.Contains(row.Key, []byte("k4")) {
			continue
		}
		value := bytes.Replace(r.Value, []byte(`"v":`), []byte(`"v":1`), 1)
		h.forge(&kgo.Record{Topic: r.Topic, Partition: r.Partition, Key: r.Key, Value: value})
		return
	}
	require.Fail(h.T, "no such row", "%s", id)
}

// falsifyLedger writes a window's row once more, with another value of one field.
func (h *recounting) falsifyLedger(id ledger.WindowID, field string, change func(string) string) {
	h.T.Helper()
	var last *kgo.Record
	for _, r := range h.Read(ledger.Topic(h.Spec.Name)) {
		if bytes.Contains(r.Value, []byte(field)) && bytes.Contains(r.Key, []byte(`"second"`)) && rowStart(r.Value) == id.Start {
			last = r
		}
	}
	require.NotNil(h.T, last)
	head, tail, _ := strings.Cut(string(last.Value), field)
	end := strings.IndexAny(tail, `",}`)
	value := head + field + change(tail[:end]) + tail[end:]
	h.forge(&kgo.Record{Topic: last.Topic, Partition: last.Partition, Key: last.Key, Value: []byte(value)})
}

// rowStart is the start of the window of a ledger row, 0 of anything else.
func rowStart(value []byte) int64 {
	var row ledger.Row
	if row.UnmarshalJSON(value) != nil {
		return 0
	}
	return row.Start
}

func (h *recounting) forge(r *kgo.Record) {
	h.T.Helper()
	require.NoError(h.T, h.Raw.ProduceSync(context.Background(), r).FirstErr())
}

// approve has what a recount has found published.
func (h *recounting) approve(id, checksum string) {
	h.T.Helper()
	c, err := result.NewCloser(result.Config{
		Spec: h.Spec, State: h.Store, Kafka: publish.NewClient(h.Kafka, h.Cluster, h.Spec.Name), By: "test",
		Jobs: map[string]result.JobKind{result.JobCorrections: result.Corrections{From: found.Differences{Store: h.Store}}},
	})
	require.NoError(h.T, err)
	defer c.Close()
	body := fmt.Appendf(nil, `{"replay":%q,"checksum":%q,"lateness":"as-read"}`, id, checksum)
	job := result.Job{ID: id, Kind: result.JobCorrections, Body: body}
	atOnce := func(ctx context.Context, work func(context.Context) error) error { return work(ctx) }
	require.NoError(h.T, c.CarryOut(context.Background(), job, atOnce, func(done result.Carried) {
		require.Equal(h.T, publish.VerdictPublished, done.Verdict, "%+v", done)
		h.approved++
	}))
}

// mended counts all windows once more: all are equal, and verify has nothing to say.
func (h *recounting) mended(corrected int) {
	h.T.Helper()
	require.Equal(h.T, corrected, h.approved)
	res := h.RecountThen(nil)
	require.Empty(h.T, res.Wrong)
	require.Equal(h.T, res.Windows, res.Equal)
	v, err := verify.Run(context.Background(), verify.Config{Spec: h.Spec, State: h.Store, Kafka: h.Cluster})
	require.NoError(h.T, err)
	for _, p := range v.Problems {
		require.Equal(h.T, verify.ProblemEntries, p.Kind, "%+v", p) // the entries that were falsified are still there
	}
}

// found counts all windows again and wants what is wrong, and nothing else, to be named; it approves that.
func (h *recounting) found(want falsified) {
	h.T.Helper()
	res := h.RecountThen(h.approve)
	named := make(falsified, len(res.Wrong))
	for id, places := range res.Wrong {
		named[id] = make(map[string][]string)
		for _, w := range places {
			var keys []string
			for _, key := range w.Keys {
				keys = append(keys, string(key))
			}
			named[id][w.Place] = keys
			h.T.Logf("%s: %s is wrong: %s; keys %s", id, w.Place, w.Detail, strings.Join(keys, " "))
		}
	}
	h.T.Logf("%d windows counted again, %d equal, %d wrong, %d refused (%s)",
		res.Windows, res.Equal, len(res.Wrong), len(res.Refused), res.Reasons())
	require.Equal(h.T, want, named)
	require.Equal(h.T, res.Windows, res.Equal+len(want), strconv.Itoa(len(res.Wrong)))
}
