// Command millrace starts, feeds, watches and steers pipelines. See `millrace --help`.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"millrace/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second Ctrl-C ends the process at once
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
