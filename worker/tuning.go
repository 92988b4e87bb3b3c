package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"millrace/internal/app"
	"millrace/internal/connect"
	"millrace/pipeline/breaker"
	"millrace/pipeline/engine"
)

// addTuning adds the flags for what counts as trouble. The defaults suit most; docs/degradation.md says what each means.
func addTuning(flags *pflag.FlagSet, cfg *app.Config) {
	cfg.Breaker, cfg.Storm = breaker.DefaultThresholds(), engine.DefaultStormLimit
	b := &cfg.Breaker
	flags.Var((*connect.Duration)(&b.OpenFor), "breaker-open",
		"how long Redis is left alone once it counts as away, before it is probed; with a WAL only")
	flags.IntVar(&b.Probes, "breaker-probes", b.Probes, "probes in a row that must succeed then")
	flags.Var((*connect.Duration)(&b.AssignmentTime), "breaker-assignment",
		"Redis counts as away when a partition's assignment takes longer")
	flags.Var((*connect.Duration)(&b.PingTimeout), "breaker-ping-timeout", "a probe of Redis that takes longer has failed; at most 1s")
	flags.IntVar(&b.PingRounds, "breaker-ping-rounds", b.PingRounds, "rounds of probes of Redis in a row that must fail, one a second")
	flags.Float64Var(&b.PingFailing, "breaker-ping-failing", b.PingFailing, "share of failed probes that makes a round fail")
	flags.Var((*connect.Duration)(&b.ThroughputWindow), "breaker-throughput-window", "throughput is compared over windows of this length")
	flags.Float64Var(&b.ThroughputDrop, "breaker-throughput-drop", b.ThroughputDrop, "share by which it must fall, while lag grows")
	flags.Var((*connect.Duration)(&b.ErrorWindow), "breaker-error-window", "failed commits are counted over a window of this length")
	flags.IntVar(&b.ErrorMin, "breaker-error-min", b.ErrorMin, "fewer commits than this within it say nothing")
	flags.Float64Var(&b.ErrorRate, "breaker-error-rate", b.ErrorRate, "share of them that must fail")
	flags.IntVar(&cfg.Storm.Changes, "storm-changes", cfg.Storm.Changes,
		"changes of a replica's partitions that count as a rebalance storm ...")
	flags.Var((*connect.Duration)(&cfg.Storm.Span), "storm-span",
		"... when they come within this span: the recovery of new lanes is then held back for a moment")
}

// checkTuning refuses what cannot be, by the names of the flags.
func checkTuning(cfg *app.Config) error {
	if cfg.Storm.Changes < 1 || cfg.Storm.Span < time.Second {
		return fmt.Errorf("--storm-changes is %d and --storm-span %v; want at least 1 and 1s", cfg.Storm.Changes, cfg.Storm.Span)
	}
	b := &cfg.Breaker
	b.ErrorStep = b.ErrorWindow / 10
	flags := []struct {
		field, flag string
		zero        bool // which the breaker takes for its default
	}{
		{"OpenFor", "open", b.OpenFor == 0}, {"Probes", "probes", b.Probes == 0}, {"AssignmentTime", "assignment", b.AssignmentTime == 0},
		{"PingTimeout", "ping-timeout", b.PingTimeout == 0}, {"PingRounds", "ping-rounds", b.PingRounds == 0},
		{"PingFailing", "ping-failing", b.PingFailing == 0}, {"ThroughputWindow", "throughput-window", b.ThroughputWindow == 0},
		{"ThroughputDrop", "throughput-drop", b.ThroughputDrop == 0}, {"ErrorWindow", "error-window", b.ErrorWindow == 0},
		{"ErrorMin", "error-min", b.ErrorMin == 0}, {"ErrorRate", "error-rate", b.ErrorRate == 0},
	}
	var names []string
	for _, f := range flags {
		if f.zero {
			return fmt.Errorf("--breaker-%s is 0; want more", f.flag)
		}
		names = append(names, "breaker: Thresholds."+f.field+" ", "--breaker-"+f.flag+" ")
	}
	if err := b.Validate(); err != nil {
		return errors.New(strings.NewReplacer(names...).Replace(err.Error()))
	}
	return nil
}
