package logs

import (
	"context"
	"errors"
	"log/slog"
	"slices"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	sdklog "go.temporal.io/sdk/log"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ForTemporal returns the logger that Temporal's SDK writes to. The SDK takes every activity attempt that ends with an error
// for an ERROR; here Temporal tries most of them again, and what is final is reported by the workflow that it fails.
func ForTemporal(log *slog.Logger) sdklog.Logger { return sdkLogger{log} }

type sdkLogger struct{ log *slog.Logger }

func (l sdkLogger) Debug(msg string, keyvals ...any) { l.log.Debug(msg, keyvals...) }
func (l sdkLogger) Info(msg string, keyvals ...any)  { l.log.Info(msg, keyvals...) }

func (l sdkLogger) Warn(msg string, keyvals ...any) { l.write(slog.LevelWarn, msg, keyvals) }

func (l sdkLogger) Error(msg string, keyvals ...any) { l.write(slog.LevelError, msg, keyvals) }

// With implements the SDK's WithLogger.
func (l sdkLogger) With(keyvals ...any) sdklog.Logger {
	return sdkLogger{l.log.With(traceNames(keyvals)...)}
}

// traceNames gives what the SDK's tracing adds to its lines the names that it has in ours.
func traceNames(keyvals []any) []any {
	named := slices.Clone(keyvals)
	for i := 0; i+1 < len(named); i += 2 {
		switch named[i] {
		case "TraceID":
			named[i] = traceID
		case "SpanID":
			named[i] = spanID
		}
	}
	return named
}

// WithCallerSkip implements the SDK's WithSkipCallers: our lines name no place in the source.
func (l sdkLogger) WithCallerSkip(int) sdklog.Logger { return l }

func (l sdkLogger) write(level slog.Level, msg string, keyvals []any) {
	l.log.Log(context.Background(), meant(level, msg, errorOf(keyvals)), msg, keyvals...)
}

// The SDK's lines whose level depends on the error. A test holds that the SDK still has them.
const (
	lineActivity  = "Activity error."
	lineHeartbeat = "RecordActivityHeartbeat with error"
	linePoll      = "Failed to poll for task."
	lineShutdown  = "ShutdownWorker rpc errored during worker shutdown."
)

// meant returns the level that a line of the SDK deserves.
func meant(level slog.Level, msg string, err error) slog.Level {
	switch msg {
	case lineActivity:
		level = slog.LevelWarn
	case lineShutdown: // a courtesy to a server that has been told of already, or is told of next
		return slog.LevelDebug
	case lineHeartbeat, linePoll:
	default:
		return level
	}
	switch {
	case err == nil:
		return level
	case ended(err):
		return slog.LevelDebug
	case over(err):
		return slog.LevelInfo
	}
	return level
}

// ended reports whether err only says that the process or the attempt was told to stop.
func ended(err error) bool {
	var cancelled *serviceerror.Canceled
	return errors.Is(err, context.Canceled) || errors.As(err, &cancelled) || status.Code(err) == codes.Canceled
}

// over reports whether err says that Temporal does not know the task any more: its workflow was closed, or the attempt has
// been given to somebody else. Who works on it notices by itself.
func over(err error) bool {
	var notFound *serviceerror.NotFound
	var exhausted *serviceerror.ResourceExhausted
	return errors.As(err, &notFound) || errors.As(err, &exhausted) && exhausted.Cause == enumspb.RESOURCE_EXHAUSTED_CAUSE_BUSY_WORKFLOW
}

// errorOf returns the error among the keys and values of a line.
func errorOf(keyvals []any) error {
	for i := 1; i < len(keyvals); i += 2 {
		if err, ok := keyvals[i].(error); ok {
			return err
		}
	}
	return nil
}
