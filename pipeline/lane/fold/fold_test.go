package fold

import (
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/lane/fold/foldtest"
	"millrace/pipeline/spec"
	"millrace/pipeline/window"
)

const (
	none      = window.NoTime
	testSpec  = foldtest.Spec
	kafkaTime = foldtest.KafkaTime
	early     = foldtest.Early
)

var (
	testLane = foldtest.Lane
	record   = foldtest.Record
	eventAt  = foldtest.EventAt
	batch    = foldtest.Batch
	jumps    = foldtest.Jumps
	headerOf = foldtest.HeaderOf
	stamp    = window.FormatTime
)

func programOf(t testing.TB, text string) *Program {
	t.Helper()
	s, err := spec.Parse("orders.yaml", []byte(text))
	require.NoError(t, err)
	p, err := Compile(s)
	require.NoError(t, err)
	return p
}

func mustProgram(t testing.TB) *Program {
	t.Helper()
	return programOf(t, testSpec)
}

// guarded bounds the past and jumps.
func guarded(t testing.TB, streak int) *Program {
	t.Helper()
	return programOf(t, foldtest.Guarded(streak))
}
