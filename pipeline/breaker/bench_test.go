package breaker

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"millrace/pipeline/report"
)

func benchMachine(b *testing.B) *Machine {
	m, err := New(Config{Dependency: "redis", Prober: new(Prober)})
	require.NoError(b, err)
	b.ReportAllocs()
	return m
}

func BenchmarkDirect(b *testing.B) {
	m := benchMachine(b)
	for b.Loop() {
		m.Direct()
	}
}

func BenchmarkAdmitNormal(b *testing.B) {
	m := benchMachine(b)
	for b.Loop() {
		m.Admit(64)
	}
}

func BenchmarkAdmitThrottled(b *testing.B) {
	m := benchMachine(b)
	m.level.Store(int32(report.LevelThrottled.Rank()))
	m.bucket.Store(rate.NewLimiter(1e9, 1e8))
	for b.Loop() {
		m.Admit(64)
	}
}

func BenchmarkReport(b *testing.B) {
	m := benchMachine(b)
	for b.Loop() {
		m.Report(nil)
	}
}

func BenchmarkReportWhileOpen(b *testing.B) {
	m := benchMachine(b)
	m.closed.Store(false)
	for b.Loop() {
		m.Report(nil)
	}
}
