package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/spec"
)

// startJob is what `start` is asked for.
type startJob struct {
	from         string // "" for where the pipeline stopped, or the start of every log
	discard, yes bool
	wait         durationFlag
}

func startCommand(sh *shell) *cobra.Command {
	job := startJob{wait: durationFlag(contract.DefaultRunningTimeout)}
	cmd := &cobra.Command{
		Use:   "start FILE",
		Short: "Start a pipeline and wait until it runs",
		Long: `Start checks the spec, makes sure that a worker polls the task queue, starts the workflow pipeline:<name>
and waits until every lane is read. If that takes longer than --wait, it says what the pipeline waits for and exits
with 1, and at once when lanes are parked until somebody decides; the workflow goes on trying, unless it has failed.
A pipeline that is running already is left alone and the start is refused.

A pipeline goes on where it stopped. One without state begins at the start of every log, or where --from says: earliest,
latest, a time (the first record whose timestamp is not before it), or an offset for every partition, as
flights/0=17,flights/1=20 or as JSON.

--discard-state begins a new incarnation in place of the one that is there, with the same spec or another one: it shows
what goes, asks, and needs --from. Windows that were published stay in the result topics as they are; open windows and
what the pipeline knows of them go. What is read from then on belongs to a new edition.`,
		Example: "  millrace start flights.yaml\n  millrace start flights.yaml --from latest\n" +
			"  millrace start flights.yaml --discard-state --from 2001-01-31T00:00:00Z --yes",
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return start(cmd.Context(), sh, args[0], job, cmd.InOrStdin())
		},
	}
	job.beginFlags(cmd)
	cmd.Flags().BoolVar(&job.discard, "discard-state", false, "give up the state that is there and begin anew at --from")
	return cmd
}

func (job *startJob) beginFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&job.from, "from", "", "where a pipeline without state begins: earliest, latest, a time, or offsets")
	cmd.Flags().BoolVarP(&job.yes, "yes", "y", false, "do not ask before state is discarded")
	cmd.Flags().Var(&job.wait, "wait", "how long to wait until the pipeline runs, 1s to 1h")
}

// begin is the workflow's input, and the update that waits for it to run.
func (job startJob) begin(s *spec.Spec) (in contract.PipelineInput, req contract.AwaitRunningRequest, err error) {
	if req.TimeoutSeconds, err = job.wait.seconds("--wait", time.Second, contract.MaxRunningTimeout); err != nil {
		return in, req, err
	}
	if in.Spec, err = s.JSON(); err != nil {
		return in, req, err
	}
	if in.DiscardState = job.discard; job.from != "" {
		if in.From, err = contract.ParseFrom(job.from); err != nil {
			return in, req, usagef("--from: %w", err)
		}
	}
	if in.DiscardState && in.From == nil {
		return in, req, usagef("--discard-state needs --from: say where the new incarnation begins, earliest, latest, a time, or offsets")
	}
	return in, req, nil
}

// started is what start prints as JSON.
type started struct {
	Pipeline   string            `json:"pipeline"`
	WorkflowID string            `json:"workflow_id"`
	RunID      string            `json:"run_id"`
	Running    *contract.Running `json:"running,omitempty"`
}

func start(ctx context.Context, sh *shell, file string, job startJob, answers io.Reader) error {
	s, err := readSpec(file)
	if err != nil {
		return err
	}
	in, req, err := job.begin(s)
	if err != nil {
		return err
	}
	if job.discard && !job.yes && !canAsk(answers, sh.err) {
		return usagef("start %s --discard-state gives up state for good and there is no terminal to ask on: look with "+
			"`millrace rm %s --dry-run`, then give --yes", file, s.Name)
	}
	return sh.withWorkers(ctx, func(c client.Client) error {
		if job.discard {
			if err := discardable(ctx, sh, c, s.Name, job, answers); err != nil {
				return err
			}
		}
		return startAndTell(ctx, sh, c, s, in, req)
	})
}

// startAndTell starts a pipeline, waits until it runs, and says so.
func startAndTell(ctx context.Context, sh *shell, c client.Client, s *spec.Spec, in contract.PipelineInput,
	req contract.AwaitRunningRequest) error {
	done, err := startPipeline(ctx, sh, c, s, in, req)
	if err != nil {
		return err
	}
	if err := sh.printOr(done, func() error { return drawStarted(sh.out, done) }); err != nil {
		return err
	}
	return unread(s.Name, done.Running)
}

// unread says which lanes of a pipeline that runs are not read, nil when all are. Lanes that wait for a decision are a failure:
// they will not be read before somebody makes it.
func unread(pipeline string, r *contract.Running) error {
	if asking := r.Asking(); len(asking) > 0 {
		return fmt.Errorf("parked until somebody decides: %d of %s of pipeline %s (%s), see `millrace recover ls %s`", len(asking),
			counted(len(r.Lanes)+len(r.Missing), "lane"), pipeline, contract.MissingGroup(asking).Lanes(), pipeline)
	}
	if len(r.Missing) > 0 {
		return incompletef("not read yet: %s of pipeline %s (%s), see `millrace status %s`", counted(len(r.Missing), "lane"), pipeline,
			contract.MissingGroup(r.Missing).Lanes(), pipeline)
	}
	return nil
}

func drawStarted(w io.Writer, done started) error {
	var b strings.Builder
	r := done.Running
	fmt.Fprintf(&b, "started pipeline %s (workflow %s, run %s)\n", done.Pipeline, done.WorkflowID, done.RunID)
	var places []string
	for _, c := range r.Replicas {
		places = append(places, fmt.Sprintf("%s on %s", c.ID, c.Worker))
	}
	fmt.Fprintf(&b, "  runs: %s\n", strings.Join(places, ", "))
	begun := make([]report.LaneReceipt, len(r.Begun))
	for i, l := range r.Begun {
		begun[i] = report.LaneReceipt{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset}
	}
	if len(begun) > 0 && begun[0].Offset == contract.BeginAtStart {
		b.WriteString("  begun at the start of every log\n")
	} else {
		printLanes(&b, "begun at", begun)
	}
	printLanes(&b, "committed", r.Lanes)
	for _, g := range contract.GroupMissing(r.Missing) {
		fmt.Fprintf(&b, "  MISSING %s\n", g)
	}
	for _, text := range r.Warnings {
		fmt.Fprintf(&b, "  warning: %s\n", text)
	}
	fmt.Fprintf(&b, "watch it with: millrace status %s\n", done.Pipeline)
	_, err := io.WriteString(w, b.String())
	return err
}

// beginInput is the JSON with which plain Temporal starts a pipeline: the bare spec, unless there is more to say.
func beginInput(in contract.PipelineInput) (json.RawMessage, error) {
	if in.From == nil {
		return in.Spec, nil
	}
	return json.Marshal(in)
}
