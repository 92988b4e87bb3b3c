package integration

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// broker is an embedded Kafka in a process of its own.
type broker struct {
	addr string
	dir  string
	cmd  *exec.Cmd
}

// startBroker starts a broker with the data in dir and returns when it accepts connections.
func startBroker(dir string, port int) (*broker, error) {
	path, err := program("broker")
	if err != nil {
		return nil, err
	}
	b := &broker{dir: dir, cmd: exec.Command(path, "--dir", dir, "--port", strconv.Itoa(port))}
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	b.cmd.Stderr = os.Stderr
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.kill()
		return nil, fmt.Errorf("start broker: %w", err)
	}
	b.addr = strings.TrimSpace(strings.TrimPrefix(line, "address: "))
	return b, nil
}

// ownBroker is a broker that only this test uses.
func ownBroker(t *testing.T) *broker {
	t.Helper()
	b, err := startBroker(filepath.Join(t.TempDir(), "kafka"), freePort(t))
	require.NoError(t, err)
	t.Cleanup(func() { b.kill() })
	return b
}

// kill is kill -9.
func (b *broker) kill() {
	b.cmd.Process.Kill()
	b.cmd.Wait()
}

// restart brings a killed broker back at the same address with its data.
func (b *broker) restart(t *testing.T) {
	t.Helper()
	_, port, _ := strings.Cut(b.addr, ":")
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	again, err := startBroker(b.dir, n)
	require.NoError(t, err)
	b.cmd = again.cmd
}
