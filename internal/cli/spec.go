package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"millrace/internal/contract"
	"millrace/pipeline/spec"
)

func specCommand(sh *shell) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "spec",
		Short: "Check, print or try a pipeline spec without any server",
	}
	check := &cobra.Command{
		Use:   "check FILE",
		Short: "Check a spec and name everything that is wrong with it",
		Long: "Check reads a spec and names everything that is wrong with it, with line, field, value and what would be valid.\n\n" +
			functionHelp(),
		Example: "  millrace spec check flights.yaml",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return checkSpec(sh, args[0])
		},
	}
	job := startJob{wait: durationFlag(contract.DefaultRunningTimeout)}
	print := &cobra.Command{
		Use:   "json FILE",
		Short: "Print a spec as the input of the Pipeline workflow, all defaults spelled out",
		Example: `  temporal workflow start --type Pipeline --task-queue millrace --workflow-id pipeline:flights \
    --fail-existing --input "$(millrace spec json flights.yaml)"`,
		Args: exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := readSpec(args[0])
			if err != nil {
				return err
			}
			in, _, err := job.begin(s)
			if err != nil {
				return err
			}
			text, err := beginInput(in)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(sh.out, "%s\n", text)
			return err
		},
	}
	print.Flags().StringVar(&job.from, "from", "", "where a pipeline without state begins: earliest, latest, a time, or offsets")
	print.Flags().BoolVar(&job.discard, "discard-state", false, "give up the state that is there and begin anew at --from")
	cmd.AddCommand(check, print, previewCommand(sh))
	return cmd
}

// functionHelp lists the aggregate functions of a spec.
func functionHelp() string {
	var b strings.Builder
	b.WriteString("Aggregate functions, the types of their field (the default first) and what they publish:\n")
	for _, f := range spec.Functions() {
		fmt.Fprintf(&b, "  %-6s %-29s %s\n", f.Name, strings.Join(f.Types, ", "), strings.ReplaceAll(f.Publishes, "`", ""))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// checkSpec prints a summary, or as JSON {"ok":..., "errors":[...]}. An invalid spec is an error in both forms.
func checkSpec(sh *shell, name string) error {
	s, err := readSpec(name)
	if sh.json {
		var invalid spec.Errors
		if err != nil && !errors.As(err, &invalid) {
			return err
		}
		if printed := printJSON(sh.out, checkReport(s, invalid)); printed != nil {
			return printed
		}
		if err != nil {
			return &Fail{Code: ExitUsage, Err: fmt.Errorf("%s is not valid: %s", name, counted(len(invalid), "problem"))}
		}
		return nil
	}
	if err != nil {
		return err
	}
	return describeSpec(sh.out, name, s)
}

type specReport struct {
	OK      bool   `json:"ok"`
	Name    string `json:"name,omitempty"`
	StateID string `json:"state_id,omitempty"`
	// RecordBytes bounds a record with a result row: what the result topic's max.message.bytes must be at the least.
	RecordBytes int           `json:"record_bytes,omitempty"`
	Notes       []string      `json:"notes,omitempty"` // what the spec asks for in vain
	Errors      []specProblem `json:"errors"`
}

type specProblem struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Field   string `json:"field,omitempty"`
	Value   string `json:"value,omitempty"`
	Problem string `json:"problem"`
	Want    string `json:"want,omitempty"`
}

func checkReport(s *spec.Spec, invalid spec.Errors) specReport {
	report := specReport{OK: s != nil, Errors: []specProblem{}}
	if s != nil {
		report.Name, report.StateID, report.RecordBytes = s.Name, s.StateID(), s.RecordBytes()
		report.Notes = s.Notes()
	}
	for _, e := range invalid {
		report.Errors = append(report.Errors, specProblem(*e))
	}
	return report
}

func describeSpec(w io.Writer, file string, s *spec.Spec) error {
	windows := make([]string, len(s.Windows))
	for i, win := range s.Windows {
		windows[i] = fmt.Sprintf("%s (%s", win.Name, win.Size)
		if win.Slide != win.Size {
			windows[i] += " every " + win.Slide.String()
		}
		windows[i] += ")"
	}
	families := strings.Join(windows, ", ")
	for i, up := range s.Rollups {
		if families += ", "; i == 0 {
			families += "roll-ups "
		}
		families += fmt.Sprintf("%s (%s in %s from %s)", up.Name, up.Calendar, up.Timezone, up.From)
	}
	_, err := fmt.Fprintf(w, "%s is valid: pipeline %s, key %s, %s, windows %s, state %s\n", file, s.Name,
		strings.Join(s.Event.Key, "+"), counted(len(s.Aggregates), "aggregate"), families, s.StateID())
	if err == nil && s.RecordBytes() > spec.DefaultRecordBytes {
		_, err = fmt.Fprintf(w, "result rows may take %d bytes: topic %s needs max.message.bytes of as many; "+
			"the start creates it so, or refuses one that takes less\n",
			s.RecordBytes(), s.Results.Kafka.Topic)
	}
	for _, note := range s.Notes() {
		if err == nil {
			_, err = fmt.Fprintln(w, "note: "+note)
		}
	}
	return err
}

// readSpec reads a spec file; "-" is standard input.
func readSpec(name string) (*spec.Spec, error) {
	in := os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, usagef("cannot read the spec: %w", err)
		}
		defer closing(file)
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, spec.MaxFileBytes+1)) // one more is one too many, which the parser says
	if err != nil {
		return nil, usagef("cannot read the spec: %w", err)
	}
	return spec.Parse(name, data)
}

// counted renders a number with its noun.
func counted[N int | int64 | uint64](n N, noun string) string {
	stem, isY := strings.CutSuffix(noun, "y")
	switch {
	case n == 1:
		return "1 " + noun
	case isY && noun != "key":
		return fmt.Sprintf("%d %sies", n, stem)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
