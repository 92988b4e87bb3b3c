package integration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/store"
)

// pollingReader reads ledger, results and view of a pipeline all the time, as somebody would who reads committed records and
// shares no code with it, but for the form of the view. It notes every content that it sees of a window: the rows that the
// links of its latest row, in the ledger or in the view, lead to. Each of its two goroutines alone uses its fields until both
// have ended.
type pollingReader struct {
	m       *mistake
	client  *kgo.Client
	results string

	reached       map[int32]int64                         // next offset of the result topic by partition
	rows          map[time.Time]map[int]map[string]string // by start, revision and key
	latest        map[time.Time]readRow                   // of the ledger
	touched       map[time.Time]bool                      // windows to be looked at: of these something was read
	polls, waited int                                     // waited: looks at windows whose rows had not all come yet
	published     seenContents                            // of the result topic
	torn          []string                                // what no reader may see

	watched   []time.Time // windows whose view is read
	views     int         // of each of them
	shown     seenContents
	tornViews []string

	ending chan struct{}     // closed when what is there now is to be read, and nothing more
	want   map[time.Time]int // revisions of the ledger by start; set before ending is closed
	cancel context.CancelFunc
	done   sync.WaitGroup
}

// seenContents are the contents of each window in the order in which they were seen first.
type seenContents map[time.Time][]string

func (s seenContents) note(start time.Time, content string) {
	if !slices.Contains(s[start], content) {
		s[start] = append(s[start], content)
	}
}

// readRow is what the reader takes of a ledger row.
type readRow struct {
	Window   string    `json:"window"`
	Start    time.Time `json:"start"`
	Revision int       `json:"revision"`
	Keys     int       `json:"keys"`
	Links    []struct {
		Revision   int `json:"revision"`
		Partitions []struct {
			Partition int32 `json:"partition"`
			Last      int64 `json:"last"`
		} `json:"partitions"`
	} `json:"links"`
}

// readResult is what the reader takes of a record of the result topic.
type readResult struct {
	Start    time.Time       `json:"start"`
	Key      json.RawMessage `json:"key"`
	Revision int             `json:"revision"`
	Values   json.RawMessage `json:"values"`
	Deleted  bool            `json:"deleted"`
}

// poll starts a reader, and returns it once it has read every window that the ledger has. watched are the windows whose view it
// reads.
func (m *mistake) poll(watched ...time.Time) *pollingReader {
	m.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &pollingReader{
		m: m, results: m.Spec.Results.Kafka.Topic, watched: watched, cancel: cancel,
		reached: make(map[int32]int64), rows: make(map[time.Time]map[int]map[string]string), latest: make(map[time.Time]readRow),
		touched: make(map[time.Time]bool), published: make(seenContents), shown: make(seenContents),
		ending: make(chan struct{}),
	}
	var err error
	r.client, err = kgo.NewClient(
		kgo.SeedBrokers(m.Kafka.Brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeTopics(r.results, ledger.Topic(m.Spec.Name)), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(100*time.Millisecond),
	)
	require.NoError(m.T, err)
	m.T.Cleanup(func() {
		cancel()
		r.done.Wait()
		r.client.Close()
	})
	all, seen := len(m.Ledger()), make(chan struct{})
	r.done.Go(func() { r.readTopics(ctx, all, seen) })
	r.done.Go(func() { r.readViews(ctx) })
	select {
	case <-seen:
	case <-time.After(patience):
		require.FailNow(m.T, "the reader does not see all windows")
	}
	return r
}

// isEnding reports whether the reader is to end with what is there now.
func (r *pollingReader) isEnding() bool {
	select {
	case <-r.ending:
		return true
	default:
		return false
	}
}

// hasReadAll reports whether the content of every revision that is wanted was looked at.
func (r *pollingReader) hasReadAll() bool {
	for start, revision := range r.want {
		if r.latest[start].Revision < revision || r.touched[start] {
			return false
		}
	}
	return true
}

// readTopics polls until ctx ends or, once the reader is ending, all was read; seen is closed once all windows were read.
func (r *pollingReader) readTopics(ctx context.Context, all int, seen chan struct{}) {
	for ctx.Err() == nil {
		bounded, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		fetches := r.client.PollFetches(bounded)
		cancel()
		fetches.EachRecord(r.take)
		r.polls++
		for start := range r.touched {
			r.look(start)
		}
		if len(r.published) >= all && seen != nil {
			close(seen)
			seen = nil
		}
		if r.isEnding() && r.hasReadAll() {
			return
		}
	}
}

// readViews reads views until ctx ends or, once the reader is ending, each was read once more.
func (r *pollingReader) readViews(ctx context.Context) {
	for ctx.Err() == nil {
		last := r.isEnding()
		for _, start := range r.watched {
			r.lookAtView(ctx, start)
		}
		r.views++
		if last {
			return
		}
	}
}

// take keeps a record.
func (r *pollingReader) take(rec *kgo.Record) {
	if rec.Topic == r.results {
		r.reached[rec.Partition] = rec.Offset + 1
	}
	if rec.Attrs.IsControl() || rec.Value == nil {
		return
	}
	if rec.Topic != r.results {
		var row readRow
		if err := json.Unmarshal(rec.Value, &row); err == nil && row.Revision > 0 && !row.Start.IsZero() { // not a floor, nor a certificate
			r.latest[row.Start], r.touched[row.Start] = row, true
		}
		return
	}
	var row readResult
	if err := json.Unmarshal(rec.Value, &row); err != nil {
		r.torn = append(r.torn, err.Error())
		return
	}
	if r.rows[row.Start] == nil {
		r.rows[row.Start] = make(map[int]map[string]string)
	}
	if r.rows[row.Start][row.Revision] == nil {
		r.rows[row.Start][row.Revision] = make(map[string]string)
	}
	if row.Deleted {
		row.Values = nil
	}
	r.rows[row.Start][row.Revision][string(row.Key)] = string(row.Values)
}

// look notes what the result topic holds of a window, once every record that the ledger row names was read.
func (r *pollingReader) look(start time.Time) {
	row := r.latest[start]
	for _, link := range row.Links {
		for _, span := range link.Partitions {
			if r.reached[span.Partition] <= span.Last {
				r.waited++
				return
			}
		}
	}
	delete(r.touched, start)
	rows := make(map[string]string)
	for _, link := range row.Links {
		maps.Copy(rows, r.rows[start][link.Revision])
	}
	maps.DeleteFunc(rows, func(_, values string) bool { return values == "" })
	if len(rows) != row.Keys {
		r.torn = append(r.torn, fmt.Sprintf("%s revision %d: %d rows of %d", at(start), row.Revision, len(rows), row.Keys))
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		text.WriteString(key + rows[key] + "\n")
	}
	r.published.note(start, text.String())
}

// lookAtView notes what Redis shows of a window.
func (r *pollingReader) lookAtView(ctx context.Context, start time.Time) {
	id := store.WindowID{Pipeline: r.m.Spec.Name, Window: "hourly", Start: start.UnixMilli()}
	current, found, err := r.m.Store.Published(ctx, id)
	var text strings.Builder
	if err == nil && found {
		var row ledger.Row
		var view *publish.Found
		if err = json.Unmarshal(current.Row, &row); err == nil {
			view, err = (&publish.Contents{State: r.m.Store}).InView(ctx, &row)
		}
		if err == nil && view.Missing != "" {
			err = errors.New(view.Missing)
		}
		if err == nil {
			for _, c := range view.Rows {
				fmt.Fprintf(&text, "%s%s\n", c.Key, c.Values)
			}
		}
	}
	switch {
	case ctx.Err() != nil:
	case err != nil || !found:
		r.tornViews = append(r.tornViews, fmt.Sprintf("view of %s: found %t, %v", at(start), found, err))
	default:
		r.shown.note(start, text.String())
	}
}

// requireWhole has the reader read to the end of what is there now, and requires that of each of these windows it has seen the
// old content and the new one, of all others one content, and nothing else.
func (r *pollingReader) requireWhole(changed ...time.Time) {
	t := r.m.T
	t.Helper()
	r.want = make(map[time.Time]int)
	for _, row := range r.m.Ledger() {
		r.want[time.UnixMilli(row.Start).UTC()] = row.Revision
	}
	close(r.ending)
	bound := time.AfterFunc(patience, r.cancel)
	r.done.Wait()
	require.True(t, bound.Stop(), "the reader does not come to the end: %v wanted, %v read", r.want, r.latest)
	t.Logf("%d polls of %d windows, %d times rows had to be waited for; %d polls of %d views", r.polls, len(r.latest), r.waited,
		r.views, len(r.watched))
	require.Empty(t, r.torn)
	require.Empty(t, r.tornViews)
	require.Greater(t, r.views, len(r.watched), "each was looked at more than once")
	for start := range r.latest {
		want := 1
		if slices.Contains(changed, start) {
			want = 2
		}
		require.Len(t, r.published[start], want, "contents in the result topic of %s", at(start))
		if slices.Contains(r.watched, start) {
			require.Len(t, r.shown[start], want, "contents in the view of %s", at(start))
		}
	}
}
