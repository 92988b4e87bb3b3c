package telemetry

import (
	"log/slog"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
)

// exportsEvery is how often a log says that exports fail.
const exportsEvery = time.Minute

// reportExports has OpenTelemetry's SDK tell log of exports that fail, once a minute at the most: the SDK itself writes a line to
// standard error for each. The latest logger counts, for the whole process.
func reportExports(log *slog.Logger) {
	var mu sync.Mutex
	var told time.Time
	missed := 0
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		missed++
		if now := time.Now(); now.Sub(told) >= exportsEvery {
			log.Warn("telemetry is not exported; the pipelines go on", "failures", missed, "error", err)
			told, missed = now, 0
		}
	}))
}
