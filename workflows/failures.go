package workflows

import (
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"millrace/internal/contract"
)

// invalid is the error of a workflow that cannot be run with its input.
func invalid(kind, format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), kind, nil)
}

// refused is the answer to a request that is not carried out.
func refused(format string, args ...any) error {
	return temporal.NewNonRetryableApplicationError(fmt.Sprintf(format, args...), contract.ErrorRefused, nil)
}

// isFinal reports whether trying an activity again cannot help.
func isFinal(err error) bool {
	var app *temporal.ApplicationError
	return temporal.IsCanceledError(err) || errors.As(err, &app) && app.NonRetryable()
}

// failureText says why a try failed, without the layers around it.
func failureText(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return contract.Cut(app.Message())
	}
	switch kind, timedOut := timeoutKind(err); {
	case timedOut && kind == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START:
		return "no worker has taken it"
	case timedOut && kind == enumspb.TIMEOUT_TYPE_HEARTBEAT:
		return "the worker that did it died, froze or lost Temporal"
	case timedOut:
		return "no answer in time"
	}
	return contract.Cut(err.Error())
}

// isType reports whether err is an application error of one of the given types.
func isType(err error, types ...string) bool {
	var app *temporal.ApplicationError
	if !errors.As(err, &app) {
		return false
	}
	for _, t := range types {
		if app.Type() == t {
			return true
		}
	}
	return false
}

// timeoutKind returns the kind of a timeout; ok is false when err is not a timeout.
func timeoutKind(err error) (kind enumspb.TimeoutType, ok bool) {
	var timeout *temporal.TimeoutError
	if ok = errors.As(err, &timeout); ok {
		kind = timeout.TimeoutType()
	}
	return kind, ok
}

// endText says in one line why an attempt ended.
func endText(err error) string {
	if kind, ok := timeoutKind(err); ok {
		switch kind {
		case enumspb.TIMEOUT_TYPE_HEARTBEAT:
			return "no heartbeat: the worker died, froze or lost Temporal"
		case enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START:
			return "nobody polls the host queue"
		}
	}
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Type() + ": " + app.Message()
	}
	return err.Error()
}

// notStarted reports whether an activity failed because nobody polled its queue.
func notStarted(err error) bool {
	kind, ok := timeoutKind(err)
	return ok && kind == enumspb.TIMEOUT_TYPE_SCHEDULE_TO_START
}

// overtakenText is what a process says of a batch or an incident that is no longer current.
func overtakenText(err error) string {
	var app *temporal.ApplicationError
	if errors.As(err, &app) {
		return app.Message()
	}
	return endText(err)
}

// refusedByHost is the answer to a request that a worker's process did not carry out.
func refusedByHost(update string, err error) error {
	if notStarted(err) {
		return refused("%s: the worker's process does not answer; nothing was done", update)
	}
	return temporal.NewNonRetryableApplicationError(update+": "+endText(err), contract.ErrorRefused, nil)
}
