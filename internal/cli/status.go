package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
	"millrace/pipeline/window"
)

func statusCommand(sh *shell) *cobra.Command {
	var file string
	var once bool
	cmd := &cobra.Command{
		Use:   "status [NAME]",
		Short: "Show a pipeline: lag, watermark, open windows and rate per lane",
		Long: `Status shows one pipeline; without a name it lists those that run, or shows the only one.
In a terminal it redraws every second until Ctrl-C. Lanes are read from Redis and Kafka, so with --spec it works also
while Temporal is away.`,
		Example: "  millrace status flights\n  millrace status flights --json | jq .lag",
		Args:    between(0, nameArg),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return status(cmd.Context(), sh, name, file, !once && !sh.json && terminal(sh.out))
		},
	}
	cmd.Flags().StringVar(&file, "spec", "", "the pipeline's spec file; default: what Temporal knows")
	cmd.Flags().BoolVar(&once, "once", false, "print once, also in a terminal")
	return cmd
}

// statusView is what status prints as JSON.
type statusView struct {
	Pipeline  string                `json:"pipeline"`
	State     string                `json:"state"`
	Note      string                `json:"note,omitempty"`
	Replicas  int                   `json:"replicas,omitempty"`
	Since     *time.Time            `json:"since,omitempty"`
	Children  []contract.ChildState `json:"children,omitempty"`
	Watermark *int64                `json:"watermark_ms"`
	Open      int                   `json:"open_windows"`
	Waiting   int                   `json:"closed_not_final_windows"`
	Lag       int64                 `json:"lag"`
	Rate      float64               `json:"records_per_second"`
	Storms    []contract.Storm      `json:"storms,omitempty"` // of replicas whose lanes move too often
	Kept      *contract.Kept        `json:"kept,omitempty"`
	KeptAt    *time.Time            `json:"kept_at,omitempty"` // when the closer said so; nil when nobody knows
	Removal   *removalView          `json:"removal,omitempty"` // that has fenced lanes and has not ended
	Lanes     []laneLine            `json:"lanes"`

	askedKept bool // the closer was asked what is kept
}

// removalView is how a removal stands that has fenced lanes of the pipeline.
type removalView struct {
	WorkflowID string `json:"workflow_id"`
	Fenced     int    `json:"fenced_lanes"`
	Running    bool   `json:"running"`
	Note       string `json:"note,omitempty"`
	Command    string `json:"command"` // follows it, or finishes what it has left
}

func status(ctx context.Context, sh *shell, name, file string, live bool) error {
	if name == "" && file == "" {
		found, err := listPipelines(ctx, sh)
		if err != nil || found == "" {
			return err
		}
		name = found
	}
	s, tc, err := sh.findSpec(ctx, name, file)
	if err != nil {
		return err
	}
	if tc == nil { // the file is enough, Temporal is welcome
		if tc, err = sh.dialTemporal(ctx); err != nil {
			tc = nil
		}
	}
	srv, err := sh.connectData(ctx)
	if err != nil {
		return err
	}
	defer srv.Close()
	if srv.temporal = tc; tc != nil {
		defer tc.Close()
	}
	if !live {
		view, _, err := look(ctx, srv, s, nil, 0)
		if err != nil {
			return err
		}
		if sh.json {
			return printJSON(sh.out, view)
		}
		return drawStatus(sh.out, view)
	}
	return watch(ctx, sh.out, srv, s)
}

// watch redraws the status every second until the context ends, which is no error.
func watch(ctx context.Context, w io.Writer, srv *servers, s *spec.Spec) error {
	const hideCursor, showCursor, clear = "\x1b[?25l", "\x1b[?25h", "\x1b[2J"
	fmt.Fprint(w, hideCursor+clear)
	defer fmt.Fprint(w, showCursor)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var before *lanesView
	taken := time.Now()
	for {
		now := time.Now()
		view, lanes, err := look(ctx, srv, s, before, now.Sub(taken))
		var text strings.Builder
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			fmt.Fprintf(&text, "%s\ntrying again\n", err)
		default:
			before, taken = lanes, now
			if err := drawStatus(&text, view); err != nil {
				return err
			}
		}
		// Home, each line cleared to its end, then everything below: no flicker.
		frame := "\x1b[H" + strings.ReplaceAll(text.String(), "\n", "\x1b[K\n") + "\x1b[J"
		if _, err := io.WriteString(w, frame); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look gathers one view. Temporal not answering is part of it, not an error.
func look(ctx context.Context, srv *servers, s *spec.Spec, before *lanesView, elapsed time.Duration) (statusView, *lanesView, error) {
	lanes, err := readLanes(ctx, srv.store, srv.cluster, s)
	if err != nil {
		return statusView{}, nil, err
	}
	view := statusView{Pipeline: s.Name, State: "unknown", Note: "Temporal does not answer", Replicas: s.Replicas}
	beats := map[string]contract.LaneStatus{}
	if srv.temporal != nil {
		describe(ctx, srv.temporal, s.Name, &view, beats)
	}
	for i := range lanes.Lanes {
		l := &lanes.Lanes[i]
		if beat, ok := beats[l.name()]; ok && !l.Fenced {
			l.State, l.Rate, l.Choices = beat.State, beat.Rate, beat.Choices
			if beat.Reason != "" {
				l.Reason = beat.Reason
			}
		}
	}
	view.Removal = removalOf(ctx, srv.temporal, s.Name, lanes.Lanes)
	lanes.rates(before, elapsed)
	view.Open, view.Waiting, view.Lanes = lanes.Open, lanes.Waiting, lanes.Lanes
	if lanes.Watermark != window.NoTime {
		view.Watermark = &lanes.Watermark
	}
	for i := range lanes.Lanes {
		view.Lag += lanes.Lanes[i].Lag
		view.Rate += lanes.Lanes[i].Rate
	}
	return view, &lanes, nil
}

// removalOf says how the removal stands that has fenced lanes; nil when none is fenced. c is nil while Temporal is away.
func removalOf(ctx context.Context, c client.Client, pipeline string, lanes []laneLine) *removalView {
	r := &removalView{WorkflowID: contract.RemoveID(pipeline), Command: "millrace rm " + pipeline}
	for i := range lanes {
		if lanes[i].Fenced {
			r.Fenced++
		}
	}
	if r.Fenced == 0 {
		return nil
	}
	if c == nil {
		return r
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	answer, err := c.DescribeWorkflowExecution(ctx, r.WorkflowID, "")
	if err != nil {
		return r
	}
	state := answer.GetWorkflowExecutionInfo().GetStatus()
	r.Running = state == enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING
	r.Note = strings.ToLower(state.String())
	var status contract.RemoveStatus
	if queryWorkflow(ctx, c, r.WorkflowID, "", &status) == nil {
		if status.Input != nil {
			r.Command = status.Input.Command()
		}
		if r.Running {
			r.Note = standing(status)
		}
	}
	return r
}

// describe asks the pipeline's workflow how it is, and its replicas' heartbeats how the lanes are.
func describe(ctx context.Context, c client.Client, pipeline string, view *statusView, beats map[string]contract.LaneStatus) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	var p contract.PipelineStatus
	answer, err := c.QueryWorkflow(ctx, contract.PipelineID(pipeline), "", contract.QueryStatus)
	if err == nil {
		err = answer.Get(&p)
	}
	if err != nil {
		view.Note = explain(pipeline, err).Error()
		return
	}
	view.State, view.Note, view.Replicas, view.Children = p.State, p.Note, p.Replicas, p.Children
	if !p.Since.IsZero() {
		view.Since = &p.Since
	}
	if state, note, err := outcome(ctx, c, pipeline); err == nil && state != "" {
		view.State, view.Note, view.Children = state, note, nil
		return
	}
	view.Kept, view.KeptAt = keptOf(ctx, c, pipeline)
	view.askedKept = true
	for n := range p.Replicas {
		beat := heartbeat(ctx, c, contract.ReplicaID(pipeline, n))
		if beat.Storm != nil {
			view.Storms = append(view.Storms, *beat.Storm)
		}
		for _, lane := range beat.Lanes {
			beats[fmt.Sprintf("%s/%d", lane.Topic, lane.Partition)] = lane
		}
	}
}

// drawKept says what is kept of windows that were published, and when the closer said so: it counts at the end of a round,
// knows no row before it has taken over the ledger's partitions, and its heartbeats may be a minute apart.
func drawKept(w io.Writer, v statusView) {
	k := v.Kept
	switch {
	case k == nil && !v.askedKept:
		return
	case k == nil:
		fmt.Fprintln(w, "kept: not counted yet")
		return
	case *k == (contract.Kept{}):
		fmt.Fprint(w, "kept: no ledger row counted yet")
	default:
		fmt.Fprintf(w, "kept: %s, %s with contents", counted(k.Rows, "ledger row"), counted(k.Results, "window"))
		if k.Oldest != 0 {
			fmt.Fprintf(w, ", the oldest final since %s", instant(k.Oldest))
		}
		fmt.Fprintf(w, ", sweep backlog %d", k.Backlog)
	}
	if v.KeptAt != nil {
		fmt.Fprintf(w, " (reported at %s)", v.KeptAt.UTC().Format(time.RFC3339))
	}
	fmt.Fprintln(w)
}

func drawStatus(w io.Writer, v statusView) error {
	mark := "-"
	if v.Watermark != nil {
		mark = instant(*v.Watermark)
	}
	fmt.Fprintf(w, "pipeline %s: %s", v.Pipeline, v.State)
	if v.Note != "" {
		fmt.Fprintf(w, " (%s)", v.Note)
	}
	fmt.Fprintf(w, "\nwatermark %s, %s, %d closed but open to late events, lag %d, %s records/s\n",
		mark, counted(v.Open, "open window"), v.Waiting, v.Lag, short(v.Rate))
	drawKept(w, v)
	if r := v.Removal; r != nil {
		fmt.Fprintf(w, "REMOVAL %s has fenced %s of the pipeline", r.WorkflowID, counted(r.Fenced, "lane"))
		switch {
		case r.Running:
			fmt.Fprintf(w, " and goes on (%s); follow it with `%s`\n", r.Note, r.Command)
		case r.Note != "":
			fmt.Fprintf(w, " and ended before it was done (%s); finish it with `%s`\n", r.Note, r.Command)
		default:
			fmt.Fprintf(w, " and has not ended; finish it with `%s`\n", r.Command)
		}
	}
	for _, child := range v.Children {
		fmt.Fprintf(w, "  %s: %s", child.ID, child.State)
		if child.Worker != "" {
			fmt.Fprintf(w, " on %s", child.Worker)
		}
		if child.Note != "" {
			fmt.Fprintf(w, " (%s)", child.Note)
		}
		fmt.Fprintln(w)
	}
	for _, storm := range v.Storms {
		fmt.Fprintln(w, "  "+stormLine(storm))
	}
	t := &table{}
	t.row("LANE", "STATE", "OFFSET", "LAG", "RATE", "WATERMARK", "SLICES", "FOLDED", "LATE", "INVALID", "REASON")
	for i := range v.Lanes {
		l := &v.Lanes[i]
		mark := "-"
		if l.Watermark != nil {
			mark = instant(*l.Watermark)
		}
		state, reason := l.State, l.Reason
		if l.Idle {
			state += ", idle"
		}
		if len(l.Choices) > 0 {
			reason += fmt.Sprintf(" (%s: see millrace recover ls %s)", strings.Join(l.Choices, " or "), v.Pipeline)
		}
		t.row(l.name(), state, l.Offset, l.Lag, short(l.Rate), mark, l.Slices, l.Counters.Folded, l.Counters.Late,
			l.Counters.Invalid+l.Counters.Ahead, reason)
	}
	return t.write(w, "")
}
