package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"millrace/internal/dev"
)

// benchServers are embedded servers in a process of their own. It ends when its standard input does, so also when this
// process is killed.
type benchServers struct {
	Kafka string `json:"kafka"`
	Redis string `json:"redis"`

	cmd   *exec.Cmd
	stdin io.WriteCloser
}

const benchServersName = "servers"

func benchServersCommand(sh *shell) *cobra.Command {
	return &cobra.Command{
		Use:    benchServersName,
		Short:  "Run embedded Kafka and Redis until standard input ends",
		Hidden: true,
		Args:   exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			kafka, err := dev.StartKafka(cmd.Context(), dev.KafkaConfig{})
			if err != nil {
				return err
			}
			defer closing(kafka)
			redis, err := dev.StartRedis(cmd.Context(), dev.RedisConfig{})
			if err != nil {
				return err
			}
			defer closing(redis)
			if err := printJSON(sh.out, benchServers{Kafka: kafka.Addr(), Redis: redis.Addr()}); err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, os.Stdin)
			return err
		},
	}
}

// startBenchServers runs this very program as the servers.
func startBenchServers(ctx context.Context, stderr io.Writer) (*benchServers, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start embedded servers: %w", err)
	}
	s := &benchServers{cmd: exec.CommandContext(ctx, self, "bench", benchServersName)}
	s.cmd.Stderr = stderr
	if s.stdin, err = s.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start embedded servers: %w", err)
	}
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start embedded servers: %w", err)
	}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start embedded servers: %w", err)
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, s)
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("start embedded servers: %w", err)
	}
	return s, nil
}

// stop ends the servers and waits for them; how they ended does not matter.
func (s *benchServers) stop() {
	closing(s.stdin)
	_ = s.cmd.Wait()
}
