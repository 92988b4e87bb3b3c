package main

import (
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"millrace/internal/app"
	"millrace/pipeline/breaker"
	"millrace/pipeline/engine"
)

// addTuning adds the flags for what counts as trouble. The defaults suit most; docs/degradation.md says what each means.
func addTuning(flags *pflag.FlagSet, cfg *app.Config) {
	cfg.Breaker, cfg.Storm = breaker.DefaultThresholds(), engine.DefaultStormLimit
	b := &cfg.Breaker
	flags.DurationVar(&b.OpenFor, "breaker-open", b.OpenFor, "how long Redis is left alone once it counts as away, before it is probed; with a WAL only")
	flags.IntVar(&b.Probes, "breaker-probes", b.Probes, "probes in a row that must succeed then")
	flags.DurationVar(&b.AssignmentTime, "breaker-assignment", b.AssignmentTime, "Redis counts as away when a partition's assignment takes longer")
	flags.DurationVar(&b.PingTimeout, "breaker-ping-timeout", b.PingTimeout, "a PING that takes longer has failed; at most 1s")
	flags.IntVar(&b.PingRounds, "breaker-ping-rounds", b.PingRounds, "rounds of PINGs in a row that must fail, one a second")
	flags.Float64Var(&b.PingFailing, "breaker-ping-failing", b.PingFailing, "share of failed PINGs that makes a round fail")
	flags.DurationVar(&b.ThroughputWindow, "breaker-throughput-window", b.ThroughputWindow, "throughput is compared over windows of this length")
	flags.Float64Var(&b.ThroughputDrop, "breaker-throughput-drop", b.ThroughputDrop, "share by which it must fall, while lag grows")
	flags.DurationVar(&b.ErrorWindow, "breaker-error-window", b.ErrorWindow, "failed commits are counted over this long")
	flags.IntVar(&b.ErrorMin, "breaker-error-min", b.ErrorMin, "fewer commits than this within it say nothing")
	flags.Float64Var(&b.ErrorRate, "breaker-error-rate", b.ErrorRate, "share of them that must fail")
	flags.IntVar(&cfg.Storm.Changes, "storm-changes", cfg.Storm.Changes, "so many changes of a replica's partitions are a rebalance storm ...")
	flags.DurationVar(&cfg.Storm.Span, "storm-span", cfg.Storm.Span, "... within so long: the recovery of new lanes is then held back for a moment")
}

func checkTuning(cfg *app.Config) error {
	if cfg.Storm.Changes < 1 || cfg.Storm.Span < time.Second {
		return fmt.Errorf("--storm-changes is %d and --storm-span %v; want at least 1 and 1s", cfg.Storm.Changes, cfg.Storm.Span)
	}
	return cfg.Breaker.Validate()
}
