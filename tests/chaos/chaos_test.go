package chaos

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/tests/long"
	"millrace/tests/rig"
)

var (
	flagSeeds = flag.String("seeds", "", "seeds to run, separated by commas")
	flagFresh = flag.Int("fresh", 0, "so many new seeds to run")
	flagFixed = flag.Bool("fixed", false, "run the fixed set")
	flagKeep  = flag.Bool("keep", false, "keep the logs of exact seeds too")
	flagOlder = flag.String("older", "", "directory with millrace and worker of an older release: fleets are mixed")
	flagJSON  = flag.String("json", os.Getenv("CHAOS_JSON"), "file for the report as JSON (or CHAOS_JSON)")
)

// fixed is how many seeds the fixed set has, from 1.
const fixed = 30

// outcomes are those of TestSeeds.
var outcomes []*Outcome

func TestMain(m *testing.M) {
	flag.Parse()
	seeds, err := chosen()
	if err == nil && *flagOlder != "" {
		*flagOlder, err = filepath.Abs(*flagOlder)
	}
	if err == nil && len(seeds) > 0 {
		err = flag.Set("test.timeout", (time.Duration(len(seeds))*limit + 10*time.Minute).String())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	}
	code := rig.Main(m)
	if len(seeds) > 0 {
		code = max(code, printOutcomes())
	}
	os.Exit(code)
}

// printOutcomes prints what became of the seeds and returns the exit code.
func printOutcomes() int {
	r := summarise(outcomes)
	err := r.write(os.Stdout)
	if err == nil && *flagJSON != "" {
		var text []byte
		if text, err = json.MarshalIndent(r, "", "  "); err == nil {
			err = os.WriteFile(*flagJSON, append(text, '\n'), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		return 1
	}
	if !r.Exact {
		return 1
	}
	return 0
}

// chosen are the seeds that the flags name. Fresh ones stay the same when it is called again.
func chosen() ([]uint64, error) {
	var seeds []uint64
	for text := range strings.SplitSeq(*flagSeeds, ",") {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("seed %q is not a number", text)
		}
		seeds = append(seeds, seed)
	}
	if *flagFixed {
		for seed := range uint64(fixed) {
			seeds = append(seeds, seed+1)
		}
	}
	return append(seeds, fresh()...), nil
}

// once are the new seeds of this run.
var once []uint64

func fresh() []uint64 {
	for len(once) < *flagFresh {
		once = append(once, uint64(rand.Uint32())|1<<31) // none of the fixed ones
	}
	return once
}

// scale is that of `make chaos`.
func scale() Scale {
	s := Scale{Events: 50_000, Faults: 8, Away: 20 * time.Second, WAL: walSwitch(), Losses: true, Denied: true}
	s.Mixed = *flagOlder != ""
	s.Clocks = !s.Mixed // the older release's workers go by the machine's clock
	if long.Wanted {
		s.Away = 2 * time.Minute
	}
	return s
}

// TestSeeds runs what `make chaos` asks for.
func TestSeeds(t *testing.T) {
	seeds, err := chosen()
	require.NoError(t, err)
	if len(seeds) == 0 {
		t.Skip("no seeds: run make chaos")
	}
	needRedis(t)
	scale := scale()
	if slices.ContainsFunc(seeds, func(seed uint64) bool { return NewPlan(seed, scale).Uses(ClockJump) }) {
		_, err := rig.ClockedWorker()
		require.NoError(t, err)
	}
	for _, seed := range seeds {
		out := &Outcome{Seed: seed, Mixed: scale.Mixed, Faults: make(map[Kind]int), Logs: logsOf(seed)}
		outcomes = append(outcomes, out)
		fmt.Printf("seed %d: %s\n", seed, NewPlan(seed, scale))
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) { survive(t, NewPlan(seed, scale), scale, out) })
		fmt.Println(out.line())
	}
}

// TestSmoke is a short schedule for every day.
func TestSmoke(t *testing.T) {
	needRedis(t)
	scale := Scale{Events: 7_000, Faults: 3}
	plan := &Plan{
		Seed: 1, Workers: 2, Replicas: 2, Partitions: 3, Variant: variants[1].name,
		YAML:   strings.Replace(variants[1].yaml, "lane: {", "lane: {commit_interval: 200ms, chunk_fields: 4, ", 1),
		Events: scale.Events, Feed: 5 * time.Second, Fsync: "everysec", Start: 40_000,
		Steps: []Step{
			{Kind: WorkerKill, Worker: 0, For: 300 * time.Millisecond},
			{Kind: RedisMute, Worker: Everyone, After: 500 * time.Millisecond, For: 500 * time.Millisecond},
			{Kind: RedisKill, After: 500 * time.Millisecond, For: 300 * time.Millisecond},
		},
	}
	out := &Outcome{Seed: plan.Seed, Faults: make(map[Kind]int), Logs: logsOf(0)}
	survive(t, plan, scale, out)
	require.Equal(t, map[Kind]int{WorkerKill: 1, RedisMute: 1, RedisKill: 1}, out.Faults)
	require.Zero(t, out.Lost+out.Duplicated)
}

func needRedis(t *testing.T) {
	if !rig.HaveRedis() {
		t.Skip("redis-server is not installed, and this test has to kill one")
	}
}

// logsOf is where the logs of a seed are, until it has been exact.
func logsOf(seed uint64) string {
	dir, err := filepath.Abs(filepath.Join("..", "..", ".millrace", "chaos", fmt.Sprintf("seed-%d", seed)))
	if err != nil {
		return ""
	}
	return dir
}

// survive runs one seed from its start to its end.
func survive(t *testing.T, plan *Plan, scale Scale, out *Outcome) {
	began := time.Now()
	out.Plan = plan.String()
	var r *run
	defer func() {
		out.Seconds = time.Since(began).Seconds()
		if out.Exact = !t.Failed(); out.Exact && !*flagKeep {
			require.NoError(t, os.RemoveAll(out.Logs))
			out.Logs = ""
		}
		if !out.Exact && r != nil && r.pipeline != nil {
			a := r.world.CLI("status", r.pipeline.Spec.Name, "--spec", r.pipeline.File)
			r.keep("status.txt", []byte(a.Out+a.Err))
		}
	}()
	_, lines := rig.Flights(t, 0)
	r = begin(t, plan, scale, out.Logs, out)
	r.play(plan.input(lines))
	r.finish()
	r.judge()
	r.recount()
	r.leave()
}
