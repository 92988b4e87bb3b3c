// Command broker runs the embedded Kafka in a process of its own, so that tests can kill it and so that the race
// detector does not slow it down. It prints its address and runs until it is told to stop.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"millrace/internal/dev"
)

func main() {
	var cfg dev.KafkaConfig
	flag.StringVar(&cfg.DataDir, "dir", "", "directory that keeps the data")
	flag.IntVar(&cfg.Port, "port", 0, "port; 0 takes a free one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, cfg); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, cfg dev.KafkaConfig) error {
	k, err := dev.StartKafka(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Println("address:", k.Addr())
	<-ctx.Done()
	return k.Close()
}
