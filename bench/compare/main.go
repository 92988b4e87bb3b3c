// Compare measures two builds of millrace in turns over the same topics and prints what each costs and the ratio. It is run by
// bench/compare.sh, which starts the servers. Every measurement is appended to a file as a line of JSON.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"millrace/pipeline/source"
)

const workloads = "keys-1k,keys-100k,keys-1m,partitions-64,windows-1s,hopping,hour"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	rounds := flags.Int("rounds", 3, "how often each program is measured with each workload")
	names := flags.String("workloads", workloads, "workloads of millrace bench, with commas between")
	path := flags.String("out", "bin/compare.jsonl", "file to which every measurement is appended as a line of JSON")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 2 || *rounds < 1 {
		return errors.New("usage: compare [--rounds N] [--workloads NAME,...] [--out FILE] BASE NEW, N at least 1")
	}
	brokers := os.Getenv("MILLRACE_KAFKA_BROKERS")
	if brokers == "" {
		return errors.New("MILLRACE_KAFKA_BROKERS is not set: run bench/compare.sh, which starts the servers")
	}
	cluster, err := source.NewCluster(ctx, source.Config{Brokers: strings.Split(brokers, ",")})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	file, err := os.OpenFile(*path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	c := comparison{cluster: cluster, programs: [2]program{{side: "base", path: flags.Arg(0)}, {side: "new", path: flags.Arg(1)}},
		rounds: *rounds, lines: json.NewEncoder(file), progress: progress}
	for i := range c.programs {
		var version bytes.Buffer
		if err := output(ctx, exec.CommandContext(ctx, c.programs[i].path, "--version"), &version); err != nil {
			return err
		}
		c.programs[i].version = strings.TrimSpace(version.String())
		fmt.Fprintf(out, "%s: %s\n", c.programs[i].side, c.programs[i].version)
	}
	for name := range strings.SplitSeq(*names, ",") {
		pairs, err := c.measure(ctx, name)
		if err != nil {
			return fmt.Errorf("workload %s: %w", name, err)
		}
		fmt.Fprintf(out, "\n%s", table(name, pairs))
	}
	return nil
}

// program is one of the two builds.
type program struct{ side, path, version string }

// comparison measures the programs in turns.
type comparison struct {
	cluster  *source.Cluster
	programs [2]program
	rounds   int
	lines    *json.Encoder
	progress io.Writer
}

// line is a measurement as the file keeps it.
type line struct {
	At       time.Time       `json:"at"`
	Side     string          `json:"side"`
	Version  string          `json:"version"`
	Workload string          `json:"workload"`
	Round    int             `json:"round"`
	Result   json.RawMessage `json:"result"` // what millrace bench --json printed
}

// measure fills a topic, has both programs read it in every round, and deletes it. Before each, Redis is emptied.
func (c *comparison) measure(ctx context.Context, workload string) (pairs []pair, err error) {
	topic := "compare-" + workload + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	defer func() {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		err = errors.Join(err, c.cluster.DeleteTopic(cleaning, topic))
	}()
	fmt.Fprintf(c.progress, "%s: filling a topic\n", workload)
	if _, err := c.bench(ctx, c.programs[1], "--workload", workload, "--topic", topic, "--fill-only"); err != nil {
		return nil, err
	}
	for round := range c.rounds {
		var p pair
		for side, program := range c.programs {
			fmt.Fprintf(c.progress, "%s: round %d of %d, %s\n", workload, round+1, c.rounds, program.side)
			if err := output(ctx, exec.CommandContext(ctx, "tools/servers.sh", "flush-redis"), nil); err != nil {
				return nil, err
			}
			text, err := c.bench(ctx, program, "--workload", workload, "--topic", topic, "--json")
			if err != nil {
				return nil, err
			}
			if p[side], err = read(text); err != nil {
				return nil, fmt.Errorf("what %s printed: %w", program.path, err)
			}
			kept := line{At: time.Now().UTC(), Side: program.side, Version: program.version, Workload: workload, Round: round + 1, Result: text}
			if err := c.lines.Encode(kept); err != nil {
				return nil, err
			}
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}

func (c *comparison) bench(ctx context.Context, p program, args ...string) ([]byte, error) {
	var out bytes.Buffer
	err := output(ctx, exec.CommandContext(ctx, p.path, append([]string{"bench"}, args...)...), &out)
	return out.Bytes(), err
}

// output runs a command. An error of it says what the command wrote to its standard error.
func output(ctx context.Context, cmd *exec.Cmd, out io.Writer) error {
	var errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &errs
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("%s: %w\n%s", cmd, err, &errs), context.Cause(ctx))
	}
	return nil
}
