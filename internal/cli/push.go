package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"millrace/internal/telemetry"
	"millrace/pipeline/measure"
)

// envPushgateway is the address of the Pushgateway where no flag gives one.
const envPushgateway = "MILLRACE_PUSHGATEWAY"

// pushing is what a short run says of itself to a Pushgateway when it ends: nobody scrapes a process that is gone. Without a
// Pushgateway the first two are nil.
type pushing struct {
	metrics *telemetry.Registry
	measure *measure.Process
	records int64 // -1 while it is not known
}

// addTo gives a command a flag for the Pushgateway, and pushes when the command has ended, however it did. A Pushgateway that does not
// take it changes nothing about that.
func (p *pushing) addTo(sh *shell, cmd *cobra.Command) {
	var address string
	cmd.Flags().StringVar(&address, "pushgateway", "",
		"http://HOST:PORT of a Prometheus Pushgateway that gets the run's metrics when it ends (or "+envPushgateway+")")
	command, run := cmd.Name(), cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		address = cmp.Or(address, os.Getenv(envPushgateway))
		if address == "" {
			return run(cmd, args)
		}
		if err := telemetry.CheckPushgateway(address); err != nil {
			return usagef("--pushgateway: %w", err)
		}
		registry, err := telemetry.NewRegistry(cmd.Context(), os.Getenv)
		if err != nil {
			return usagef("%w", err)
		}
		ctx := context.WithoutCancel(cmd.Context())
		defer func() { _ = registry.Close(ctx) }() // what OTLP does not take is lost
		registry.ObserveBuild()
		p.metrics, p.measure, p.records = registry, measure.NewProcess(), -1
		began := time.Now()
		failed := run(cmd, args)
		host, err := os.Hostname()
		if err == nil {
			err = registry.Push(ctx, address, host, telemetry.Run{
				Command: command, Took: time.Since(began), Records: p.records, Failed: failed != nil,
			})
		}
		if err != nil {
			fmt.Fprintf(sh.err, "millrace: %v\n", err)
		}
		return failed
	}
}
