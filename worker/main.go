// Command worker is the worker process of Millrace: it polls Temporal, runs hot paths and closes windows. Any number of
// them may run; each is told where Kafka, Redis and Temporal are by the environment or by flags.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"millrace/internal/admin"
	"millrace/internal/app"
	"millrace/internal/build"
	"millrace/internal/connect"
	"millrace/internal/logs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stderr))
}

// run returns the exit code: 0 after a clean stop, 1 when something failed, 2 for wrong usage.
func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) int {
	cfg, err := configure(args, getenv, out)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case errors.Is(err, errProbe):
		if err := admin.Probe(ctx, cfg.Admin); err != nil {
			fmt.Fprintln(out, "worker:", err)
			return 1
		}
		return 0
	case errors.Is(err, errVersion):
		fmt.Fprintf(out, "worker %s, %s\n", build.Version(), build.Go())
		return 0
	case err != nil:
		fmt.Fprintln(out, "worker:", err)
		return 2
	}
	if err := app.RunWorker(ctx, cfg); err != nil {
		fmt.Fprintln(out, "worker:", err)
		return 1
	}
	return 0
}

// errProbe means that --probe asks whether another process is ready.
var errProbe = errors.New("probe asked for")

// errVersion means that --version asks for nothing but that.
var errVersion = errors.New("version asked for")

// envMetrics is the address for metrics and health where no flag gives one.
const envMetrics = "MILLRACE_METRICS_ADDR"

func configure(args []string, getenv func(string) string, out io.Writer) (cfg app.Config, err error) {
	conn := connect.FromEnv(getenv)
	log, err := connect.WALFromEnv(getenv)
	if err != nil {
		return cfg, err
	}
	flags := pflag.NewFlagSet("worker", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.SetOutput(out)
	conn.AddFlags(flags)
	log.AddFlags(flags)
	addTuning(flags, &cfg)
	reports := connect.Size(app.DefaultReportsLimit)
	flags.Var(&reports, "reports-limit",
		"bytes that "+app.ReportsFile+" in the WAL directory may take; beyond it the oldest reports of recoveries "+
			"that wait for Temporal are dropped")
	flags.StringVar(&cfg.Temporal.Worker, "name", "", "name of this worker for people (default: host name and process id)")
	flags.StringVar(&cfg.Admin.Addr, "metrics", getenv(envMetrics),
		"host:port for /metrics, /health and /debug/pprof/; a bare port is loopback, 0.0.0.0:PORT every interface (or "+envMetrics+")")
	version := flags.Bool("version", false, "say which build of the worker this is, and end")
	probes := flags.Bool("probe", false, "ask the worker that runs with the same --metrics whether it is ready, and end with 0 or 1; "+
		"for health checks of containers without a shell")
	text := flags.Bool("log-text", false, "log lines of text instead of JSON")
	verbose := flags.Bool("verbose", false, "log more")
	flags.BoolVar(&cfg.Temporal.NoWorkflowCache, "no-workflow-cache", false, "replay every workflow task from its start; for tests")
	flags.Usage = func() {
		fmt.Fprintf(out, "Usage of worker:\n%s\nKafka, Redis and Temporal are found by these flags or by the environment; "+
			"passwords by the environment alone:\n\n%s\n", flags.FlagUsages(), connect.VariablesHelp())
	}
	if err := flags.Parse(args); err != nil {
		var invalid *pflag.InvalidValueError
		if errors.As(err, &invalid) && connect.IsAddressFlag(invalid.GetFlag().Name) { // its value may hold a password
			err = fmt.Errorf("--%s cannot be read; want host:port, several with commas between them", invalid.GetFlag().Name)
		}
		return cfg, err
	}
	switch {
	case *version:
		return cfg, errVersion
	case *probes && cfg.Admin.Addr == "":
		return cfg, errors.New("--probe needs to know where the worker answers: give --metrics HOST:PORT or set " + envMetrics)
	case *probes:
		return cfg, errProbe
	}
	if flags.NArg() > 0 {
		return cfg, fmt.Errorf("unexpected argument %q; only flags are taken, see --help", flags.Arg(0))
	}
	if err := checkTuning(&cfg); err != nil {
		return cfg, err
	}
	if cfg.Temporal.ReportsLimit = int64(reports); reports < app.LeastReportsLimit {
		return cfg, fmt.Errorf("--reports-limit is %d bytes; want at least %d", reports, app.LeastReportsLimit)
	}
	if err := cfg.Admin.Validate(); err != nil {
		return cfg, err
	}
	cfg.Log = logs.New(out, *text, *verbose)
	if cfg.Kafka, err = conn.KafkaConfig(); err != nil {
		return cfg, err
	}
	if cfg.Redis, err = conn.RedisConfig(); err != nil {
		return cfg, err
	}
	if cfg.WAL, err = log.Config(cfg.Temporal.Worker); err != nil {
		return cfg, err
	}
	cfg.Temporal.Client, err = conn.Temporal()
	return cfg, err
}
