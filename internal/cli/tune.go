package cli

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"millrace/internal/machine"
	"millrace/internal/tune"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// tuneLoad is what a measurement may use, and what it is for.
type tuneLoad struct {
	files      []string
	keys       int
	records    int64
	partitions int32
}

func tuneCommand(sh *shell) *cobra.Command {
	load := tuneLoad{}
	cmd := &cobra.Command{
		Use:   "tune",
		Short: "Measure Kafka, Redis and this machine, and recommend settings with the reasons",
		Long: `Tune takes a measurement of about ten seconds against the Kafka and the Redis that it is given and prints a table of
settings: what stands now, what it recommends, the formula with its numbers, and where it is set. It changes nothing.

It writes to a topic of its own, to Redis keys of its own, and removes both. It says so before it begins. Redis and the
brokers are busy meanwhile: on servers in use, choose a quiet hour or fewer --records.

Run it where a worker runs, with the worker's flags for Redis and the specs of its pipelines.`,
		Example: "  millrace tune --kafka localhost:9092 --redis localhost:6379 --spec flights.yaml\n" +
			"  millrace tune --spec a.yaml --spec b.yaml --keys 50000 --json | jq '.advice[] | select(.now != .recommended)'",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case load.keys < 1:
				return usagef("--keys is %d; want at least 1", load.keys)
			case load.records < 10_000 || load.records > 10_000_000:
				return usagef("--records is %d; want 10000 to 10000000", load.records)
			case load.partitions < 1:
				return usagef("--partitions is %d; want at least 1", load.partitions)
			}
			view, err := tuneServers(cmd.Context(), sh, load)
			if err != nil {
				return err
			}
			if sh.json {
				return printJSON(sh.out, view)
			}
			return view.draw(sh.out)
		},
	}
	cmd.Flags().StringArrayVar(&load.files, "spec", nil, "spec file of a pipeline that is to run on one worker; may be given again; default: a pipeline with all defaults")
	cmd.Flags().IntVar(&load.keys, "keys", 10_000, "distinct keys that a lane meets within a commit interval")
	cmd.Flags().Int64Var(&load.records, "records", 400_000, "records to write to Kafka and to read again")
	cmd.Flags().Int32Var(&load.partitions, "partitions", defaultPartitions, "partitions of a pipeline's topics that one worker has")
	return cmd
}

// tuneView is what tune prints as JSON.
type tuneView struct {
	Measured *tune.Measured `json:"measured"`
	Advice   []tune.Advice  `json:"advice"`
}

func tuneServers(ctx context.Context, sh *shell, load tuneLoad) (*tuneView, error) {
	specs, err := tuneSpecs(load.files)
	if err != nil {
		return nil, err
	}
	srv, err := sh.connectData(ctx)
	if err != nil {
		return nil, err
	}
	defer srv.Close()
	m := &tune.Measured{Machine: machine.Look("/"), Processes: runtime.GOMAXPROCS(0)}
	if err := measureServers(ctx, sh.err, srv, specs[0], load, m); err != nil {
		return nil, err
	}
	return &tuneView{m, tune.Advise(m, tuneNow(specs, load, srv.redisAt))}, nil
}

func tuneSpecs(files []string) (all []*spec.Spec, err error) {
	for _, file := range files {
		s, err := readSpec(file)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	if len(all) == 0 {
		s, err := spec.Parse("tune.yaml", []byte(workloadHour.spec("tune")))
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// tuneNow is what is set. Fields of the lane are those of the first spec.
func tuneNow(specs []*spec.Spec, load tuneLoad, redis store.Config) tune.Now {
	l := specs[0].Lane
	now := tune.Now{
		PoolSize: redis.PoolSize, ChunkFields: l.ChunkFields, FetchBytes: l.FetchBytes, FetchBatches: l.FetchBatches,
		CommitQueue: l.CommitQueue, CommitInterval: l.CommitInterval.Std(), Keys: load.keys, GOGC: "100", GoLimit: "none",
	}
	for _, s := range specs {
		now.Lanes += len(s.Source.Topics) * int(load.partitions)
		now.MemoryLimit += s.Lane.MemoryLimit
	}
	if text := os.Getenv("GOGC"); text != "" {
		now.GOGC = text
	}
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		now.GoLimit = tune.Bytes(limit)
	}
	return now
}

func (v *tuneView) draw(w io.Writer) error {
	t := &table{}
	t.row("OPTION", "NOW", "RECOMMENDED", "WHERE")
	for i := range v.Advice {
		a := &v.Advice[i]
		mark := ""
		if a.Changes() {
			mark = " *"
		}
		t.row(a.Option, a.Now, a.Recommended+mark, a.Where)
	}
	if err := t.write(w, ""); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for i := range v.Advice {
		for n, line := range wrapLines(v.Advice[i].Option+": "+v.Advice[i].Why, 110) {
			fmt.Fprintln(w, strings.Repeat("  ", min(n, 1))+line)
		}
	}
	return nil
}

// timedMedian is the median time of fn, which is called n times.
func timedMedian(n int, fn func() error) (time.Duration, error) {
	took := make([]time.Duration, 0, n)
	for range n {
		began := time.Now()
		if err := fn(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(began))
	}
	return median(took), nil
}
