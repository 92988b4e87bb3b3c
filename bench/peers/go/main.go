// Command peers is the Go part of the comparison with other engines: it fills the input topic, checks what an engine
// published against the truth, removes what a run left behind, and is the peer that is written by hand.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: peers COMMAND [FLAGS]
  fill    produce a workload into a new topic, read it back and count it
  topic   create an empty topic
  watch   read an engine's result topic until every row is right, then compare all rows with the truth
  hand    count as a Go program written by hand does
  clean   delete topics, groups and Redis keys whose names begin with a prefix`

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{
		"fill": fill, "topic": createTopic, "watch": watch, "hand": hand, "clean": clean,
	}
	if len(args) == 0 || commands[args[0]] == nil {
		return errors.New(usage)
	}
	return commands[args[0]](ctx, args[1:])
}
