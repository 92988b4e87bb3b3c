package rig

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
	"time"

	"github.com/stretchr/testify/require"
)

// Broker is an embedded Kafka in a process of its own.
type Broker struct {
	Addr string
	Dir  string // of its data
	cmd  *exec.Cmd
}

// StartBroker starts a broker with the data in dir and returns when it accepts connections.
func StartBroker(dir string, port int) (*Broker, error) {
	path, err := Binary("broker")
	if err != nil {
		return nil, err
	}
	b := &Broker{Dir: dir, cmd: exec.Command(path, "--dir", dir, "--port", strconv.Itoa(port))}
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
		b.Kill()
		return nil, fmt.Errorf("start broker: %w", err)
	}
	b.Addr = strings.TrimSpace(strings.TrimPrefix(line, "address: "))
	return b, nil
}

// OwnBroker is a broker that only this test uses.
func OwnBroker(t *testing.T) *Broker {
	t.Helper()
	b, err := StartBroker(filepath.Join(t.TempDir(), "kafka"), FreePort(t))
	require.NoError(t, err)
	t.Cleanup(func() { b.Kill() })
	return b
}

// Kill is kill -9.
func (b *Broker) Kill() {
	b.cmd.Process.Kill()
	b.cmd.Wait()
}

// Stop tells the broker to end, and kills it when it does not. A broker that is killed in the middle of a transaction aborts it
// at its next start without writing a marker, which no real broker does: a client that reads committed then also hides what
// the same producer commits later. So a test whose results depend on transactions stops it.
func (b *Broker) Stop() {
	b.cmd.Process.Signal(syscall.SIGTERM)
	hard := time.AfterFunc(10*time.Second, func() { b.cmd.Process.Kill() })
	defer hard.Stop()
	b.cmd.Wait()
}

// Restart brings a broker that has ended back at the same address with its data.
func (b *Broker) Restart(t *testing.T) {
	t.Helper()
	_, port, _ := strings.Cut(b.Addr, ":")
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	again, err := StartBroker(b.Dir, n)
	require.NoError(t, err)
	b.cmd = again.cmd
}
