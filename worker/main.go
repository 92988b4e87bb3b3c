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
	"strings"
	"syscall"

	"github.com/spf13/pflag"

	"millrace/internal/admin"
	"millrace/internal/app"
	"millrace/internal/build"
	"millrace/internal/connect"
	"millrace/internal/logs"
	"millrace/internal/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// run returns the exit code: 0 after a clean stop, 1 when something failed, 2 for wrong usage or wrong settings.
func run(ctx context.Context, args []string, getenv func(string) string, out, errs io.Writer) int {
	code := 2
	asked, err := parse(args, getenv, errs)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return 0
	case err != nil && asked.command != commandCheck:
	case asked.command == commandVersion:
		_, err = fmt.Fprintf(out, "worker %s, %s\n", build.Version(), build.Go())
	case asked.command == commandCheck:
		if err = errors.Join(err, asked.options.Check()); err == nil {
			_, err = fmt.Fprintln(out, "the settings are valid, and the files that they name can be read")
		}
	case asked.command == commandPrint:
		err = asked.options.Settings().Print(out)
	case asked.command == commandProbe:
		code, err = 1, admin.Probe(ctx, asked.options.Worker.Admin)
	default:
		var cfg app.Config
		if cfg, err = settled(asked.options); err == nil {
			cfg.Log = logs.New(errs, asked.options.Worker.LogText, asked.options.Worker.Verbose)
			code, err = work(ctx, cfg)
		}
	}
	if err != nil {
		fmt.Fprintln(errs, "worker:", strings.ReplaceAll(err.Error(), "\n", "\nworker: "))
		return code
	}
	return 0
}

// work runs a worker, with spans where the environment asks for them, and returns the exit code beside an error.
func work(ctx context.Context, cfg app.Config) (code int, err error) {
	if err := cfg.Temporal.Validate(); err != nil {
		return 1, err
	}
	who := telemetry.Instance{Service: "millrace-worker", ID: cfg.Temporal.Worker}
	if cfg.Traces, err = telemetry.StartTraces(ctx, who, cfg.Log); err != nil {
		return 2, err
	}
	defer cfg.Traces.Close()
	return 1, app.RunWorker(ctx, cfg)
}

// What a process of this program may be asked for instead of being a worker.
const (
	commandVersion = "version"
	commandProbe   = "probe"
	commandCheck   = "config check"
	commandPrint   = "config print"
)

// asked is what the arguments ask for, with all settings.
type asked struct {
	command string // "": a worker
	options *connect.Options
}

// parse reads the arguments, the environment and the configuration file.
func parse(args []string, getenv func(string) string, errs io.Writer) (a asked, err error) {
	a.options = connect.New()
	flags := pflag.NewFlagSet("worker", pflag.ContinueOnError)
	flags.SortFlags = false
	flags.SetOutput(errs)
	a.options.AddFlags(flags, true)
	version := flags.Bool("version", false, "say which build of the worker this is, and end")
	probes := flags.Bool("probe", false, "ask the worker that runs with the same --metrics whether it is ready, and end with 0 or 1; "+
		"for health checks of containers without a shell")
	flags.Usage = func() {
		fmt.Fprintf(errs, usage, flags.FlagUsages(), a.options.Settings().VariablesHelp(true))
	}
	if err := flags.Parse(args); err != nil {
		return a, flagError(err)
	}
	switch command := strings.Join(flags.Args(), " "); {
	case *version:
		a.command = commandVersion
		return a, nil
	case *probes:
		a.command = commandProbe
	case command == commandCheck, command == commandPrint:
		a.command = command
	case flags.Arg(0) == "config":
		return a, fmt.Errorf("want %s or %s; see --help", commandCheck, commandPrint)
	case flags.NArg() > 0:
		return a, fmt.Errorf("unexpected argument %q; want flags, %s or %s, see --help", flags.Arg(0), commandCheck, commandPrint)
	}
	err = a.options.Resolve(flags, getenv, true)
	if err == nil && *probes && a.options.Worker.Admin.Addr == "" {
		err = errors.New("--probe needs to know where the worker answers: give --metrics HOST:PORT or set MILLRACE_METRICS_ADDR")
	}
	return a, err
}

const usage = `Usage of worker:
  worker [FLAGS]                 run
  worker config check [FLAGS]    say what is wrong with the settings and the files that they name, and end with 0 or 2
  worker config print [FLAGS]    print every setting with its value and where that comes from; of secrets only that they are set

%s
Every setting may also be given by a variable or in the configuration file, secrets by those alone. A flag goes before a
variable, a variable before the file:

%s
`

// flagError words what pflag says of a flag.
func flagError(err error) error {
	var invalid *pflag.InvalidValueError
	if errors.As(err, &invalid) {
		return fmt.Errorf("--%s: %w", invalid.GetFlag().Name, invalid.Unwrap())
	}
	return err
}

// settled is a worker as the settings say.
func settled(o *connect.Options) (cfg app.Config, err error) {
	w := &o.Worker
	cfg.Admin, cfg.Breaker, cfg.Storm = w.Admin, w.Breaker, w.Storm
	cfg.Breaker.ErrorStep = w.Breaker.ErrorWindow / 10
	cfg.Temporal.Worker, cfg.Temporal.NoWorkflowCache, cfg.TracedBatches = w.Name, w.NoWorkflowCache, w.TracedBatches
	cfg.StateFormat, cfg.Temporal.ReportsLimit = w.StateFormat, int64(w.ReportsLimit)
	cfg.MergeCache = int64(w.MergeCache)
	if err := cfg.Admin.Validate(); err != nil {
		return cfg, err
	}
	if cfg.Kafka, err = o.KafkaConfig(); err != nil {
		return cfg, err
	}
	if cfg.Redis, err = o.RedisConfig(); err != nil {
		return cfg, err
	}
	if cfg.WAL, err = w.WAL.Config(w.Name); err != nil {
		return cfg, err
	}
	cfg.Temporal.Client, err = o.TemporalConfig()
	return cfg, err
}
