package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/stage"
)

// slowView is where the last minute of a pipeline went, as its hot paths and its closer said last.
type slowView struct {
	Pipeline string               `json:"pipeline"`
	Answer   string               `json:"answer"`
	Do       string               `json:"do,omitempty"`
	Lag      int64                `json:"lag"`
	Rate     float64              `json:"records_per_second"`
	All      *report.LaneTimes    `json:"all"` // of all lanes together; nil when no hot path says anything
	Lanes    []slowLane           `json:"lanes"`
	Closing  *report.ClosingTimes `json:"closing,omitempty"`
	ClosedAt *time.Time           `json:"closing_at,omitempty"` // when the closer said so
}

type slowLane struct {
	Lane  string            `json:"lane"`
	Lag   int64             `json:"lag"`
	Times *report.LaneTimes `json:"times"`
}

// slow says where the last minute went. It needs Temporal: hot paths say so in their heartbeats.
func slow(ctx context.Context, sh *shell, name string) error {
	c, err := sh.dialTemporal(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var p contract.PipelineStatus
	if err := queryWorkflow(ctx, c, contract.PipelineID(name), "", &p); err != nil {
		return err
	}
	view := slowView{Pipeline: name, Lanes: []slowLane{}}
	for n := range p.Replicas {
		beat := heartbeat(ctx, c, contract.ReplicaID(name, n))
		view.Lag, view.Rate = view.Lag+beat.Lag, view.Rate+beat.Rate
		view.add(beat.Times)
		for _, l := range beat.Lanes {
			if l.Times != nil {
				view.Lanes = append(view.Lanes, slowLane{fmt.Sprintf("%s/%d", l.Topic, l.Partition), l.Lag, l.Times})
			}
		}
	}
	closing, at := beatOf[contract.CloseDueDetails](ctx, c, contract.CloseWindowsID(name), contract.ActivityCloseDue)
	if closing.Times != nil {
		view.Closing, view.ClosedAt = closing.Times, at
	}
	view.judge()
	if sh.json {
		return printJSON(sh.out, view)
	}
	return view.draw(sh.out)
}

// add adds the lanes of a hot path.
func (v *slowView) add(t *report.LaneTimes) {
	if t == nil {
		return
	}
	if v.All == nil {
		v.All = &report.LaneTimes{Lane: report.Times{}, Reader: report.Times{}, Committer: report.Times{}}
	}
	v.All.Span += t.Span
	for _, add := range []struct{ to, from report.Times }{
		{v.All.Lane, t.Lane}, {v.All.Reader, t.Reader}, {v.All.Committer, t.Committer},
	} {
		for name, s := range add.from {
			add.to[name] += s
		}
	}
}

// judge puts the answer into words: what the lanes do most, whom it waits for, and what to do.
func (v *slowView) judge() {
	if v.All == nil || v.All.Span == 0 {
		v.Answer, v.Do = "no hot path has said anything", "millrace status "+v.Pipeline+" says why"
		return
	}
	t := v.All
	// Decoding and folding are one thing to do something about.
	work := shareOf(t.Lane, t.Span, stage.Decode, stage.Fold)
	most, share := "", 0.0
	for _, name := range slices.Sorted(maps.Keys(t.Lane)) {
		if s := t.Lane[name] / t.Span; s > share && name != stage.Decode.String() && name != stage.Fold.String() {
			most, share = name, s
		}
	}
	switch {
	case work >= share:
		v.Answer = fmt.Sprintf("lanes work: decoding and folding %s of the time", percent(work))
		v.Do = "more partitions spread over more processors or replicas; docs/profiling.md finds what costs most"
	case most == stage.Commit.String():
		v.judgeCommits(share)
	case most == stage.Fetch.String():
		v.judgeReading(share)
	default:
		said := laneWaits[most]
		v.Answer, v.Do = fmt.Sprintf("lanes %s %s of the time", said.what, percent(share)), said.do
	}
}

// laneWaits says of the other stages of lanes what they are and what to do about them.
var laneWaits = map[string]struct{ what, do string }{
	stage.Acquire.String():  {"are taken over and restored", "millrace recover show says how far it is"},
	stage.Encode.String():   {"encode commits", "a longer lane.commit_interval writes an entry once for more events"},
	stage.Memory.String():   {"wait at lane.memory_limit", "raise it, spread the lanes over more replicas, or let windows close sooner"},
	stage.Throttle.String(): {"are throttled while the write-ahead log is drained", "millrace degrade status says why; see docs/degradation.md"},
	stage.Paused.String():   {"are paused", "millrace resume"},
	stage.Parked.String():   {"wait for a decision", "millrace recover ls"},
	stage.Rest.String():     {"do what no stage names", "docs/profiling.md finds what costs most"},
}

// judgeCommits looks at the committers: lanes wait for what they wait for.
func (v *slowView) judgeCommits(share float64) {
	t := v.All
	who, do, most := "Redis", "millrace tune measures Redis; a longer lane.commit_interval writes an entry once for more events", 0.0
	for _, c := range []struct {
		stage   stage.Stage
		who, do string
	}{
		{stage.Redis, who, do},
		{stage.Sides, "Kafka to take late and dead-letter records", "look at the brokers, and at how many records are refused: millrace status " + v.Pipeline},
		{stage.Journal, "the write-ahead log", "look at its disk: millrace wal ls DIR"},
		{stage.Pause, "Redis, which refuses commits", "millrace status " + v.Pipeline + " says why"},
	} {
		if s := t.Committer[c.stage.String()]; s > most {
			who, do, most = c.who, c.do, s
		}
	}
	v.Answer = fmt.Sprintf("lanes wait for %s %s of the time; their committers are busy with it %s of the time", who, percent(share), percent(most/t.Span))
	v.Do = do
}

// judgeReading looks at the readers, unless there is nothing to read.
func (v *slowView) judgeReading(share float64) {
	t := v.All
	switch {
	case v.Lag < int64(len(v.Lanes))*quietLag+int64(quietTime*v.Rate):
		v.Answer = fmt.Sprintf("nothing is slow: lanes wait for new records %s of the time and have read all there are", percent(share))
	case t.Reader[stage.Unpack.String()] > t.Reader[stage.Broker.String()]:
		v.Answer = fmt.Sprintf("lanes wait for records %s of the time, their readers unpack %s of it", percent(share),
			percent(t.Reader[stage.Unpack.String()]/t.Span))
		v.Do = "another compression (lz4, or none) or larger batches of the producers"
	case t.Reader[stage.Pause.String()] > t.Reader[stage.Broker.String()]:
		v.Answer = fmt.Sprintf("lanes wait for Kafka %s of the time: fetches fail", percent(share))
		v.Do = "millrace status " + v.Pipeline + " says why"
	default:
		v.Answer = fmt.Sprintf("lanes wait for Kafka %s of the time; their readers wait for brokers %s of it", percent(share),
			percent(t.Reader[stage.Broker.String()]/t.Span))
		v.Do = "a larger lane.fetch_bytes brings more with each fetch; otherwise look at the brokers. millrace tune measures both"
	}
}

// Records that are always under way: lag counts those that Redis does not have yet, which is what came within a commit interval or two.
const (
	quietLag  = 1000 // a lane
	quietTime = 5    // seconds of what comes
)

func shareOf(t report.Times, span float64, stages ...stage.Stage) float64 {
	sum := 0.0
	for _, s := range stages {
		sum += t[s.String()]
	}
	return sum / span
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

// slowColumns are the stages of a lane that have a column; the others are in the last one.
var slowColumns = []stage.Stage{stage.Fetch, stage.Decode, stage.Fold, stage.Encode, stage.Commit}

func (v *slowView) draw(w io.Writer) error {
	fmt.Fprintf(w, "pipeline %s: %s\n", v.Pipeline, v.Answer)
	if v.Do != "" {
		fmt.Fprintf(w, "what to do: %s\n", v.Do)
	}
	if v.All == nil {
		return nil
	}
	t := &table{}
	t.row("LANE", "SPAN", "FETCH", "DECODE", "FOLD", "ENCODE", "COMMIT", "OTHER", "READER", "COMMITTER", "LAG")
	slices.SortFunc(v.Lanes, func(a, b slowLane) int { return cmp.Or(cmp.Compare(b.Lag, a.Lag), strings.Compare(a.Lane, b.Lane)) })
	for i := range v.Lanes {
		v.drawTimes(t, v.Lanes[i].Lane, fmt.Sprintf("%.0fs", v.Lanes[i].Times.Span), v.Lanes[i].Times, v.Lanes[i].Lag)
	}
	v.drawTimes(t, "all", "", v.All, v.Lag)
	if err := t.write(w, ""); err != nil {
		return err
	}
	if c := v.Closing; c != nil && c.Span > 0 {
		fmt.Fprintf(w, "closer: %s of the last %.0fs (as of %s)\n", timesText(c.Closer, c.Span, 9), c.Span, v.ClosedAt.UTC().Format(time.RFC3339))
	}
	return nil
}

func (v *slowView) drawTimes(t *table, name, span string, times *report.LaneTimes, lag int64) {
	row := []any{name, span}
	other := 1.0
	for _, s := range slowColumns {
		share := shareOf(times.Lane, times.Span, s)
		other -= share
		row = append(row, percent(share))
	}
	t.row(append(row, percent(max(other, 0)), timesText(times.Reader, times.Span, 2), timesText(times.Committer, times.Span, 2), lag)...)
}

// timesText lists the stages that took most of the span, no more than most of them.
func timesText(t report.Times, span float64, most int) string {
	names := slices.SortedFunc(maps.Keys(t), func(a, b string) int { return cmp.Or(cmp.Compare(t[b], t[a]), strings.Compare(a, b)) })
	var parts []string
	for _, name := range names[:min(len(names), most)] {
		parts = append(parts, name+" "+percent(t[name]/span))
	}
	return strings.Join(parts, ", ")
}
