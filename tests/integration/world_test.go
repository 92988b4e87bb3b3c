package integration

import (
	"net"
	"testing"

	"millrace/pipeline/spec"
	"millrace/tests/rig"
)

// patience bounds every wait for something that takes a second or two on an idle machine.
const patience = rig.Patience

// world is a test's corner of the servers.
type world struct{ *rig.World }

func newWorld(t *testing.T, own rig.Servers) *world {
	t.Helper()
	return &world{rig.NewWorld(t, own)}
}

// pipeline is one pipeline with a name and topics of its own.
type pipeline struct{ *rig.Pipeline }

func (w *world) newPipeline(yaml string, partitions int32, change ...func(*spec.Spec)) *pipeline {
	w.T.Helper()
	return &pipeline{w.Pipeline(yaml, partitions, change...)}
}

func split(addr string) (host, port string) {
	host, port, _ = net.SplitHostPort(addr)
	return host, port
}
