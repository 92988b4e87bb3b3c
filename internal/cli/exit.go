package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.temporal.io/api/serviceerror"

	"millrace/pipeline/spec"
)

// Exit codes of millrace. They are part of its interface: scripts decide on them.
const (
	ExitOK          = 0
	ExitFailed      = 1   // the command was understood and could not be carried out; no such pipeline, workflow or window
	ExitUsage       = 2   // unknown commands, wrong flags or arguments, or an invalid spec
	ExitUnreachable = 3   // a server does not answer, or no worker polls the task queue
	ExitIncomplete  = 4   // carried out in part: a receipt names the lanes that are missing, or verify found a violation
	ExitInterrupted = 130 // stopped by Ctrl-C
)

// Fail is an error that carries the exit code it deserves.
type Fail struct {
	Code int
	Err  error
}

func (f *Fail) Error() string { return f.Err.Error() }

// Unwrap returns the error itself.
func (f *Fail) Unwrap() error { return f.Err }

func usagef(format string, args ...any) error {
	return &Fail{Code: ExitUsage, Err: fmt.Errorf(format, args...)}
}

func unreachablef(format string, args ...any) error {
	return &Fail{Code: ExitUnreachable, Err: fmt.Errorf(format, args...)}
}

func incompletef(format string, args ...any) error {
	return &Fail{Code: ExitIncomplete, Err: fmt.Errorf(format, args...)}
}

// interruption is a Ctrl-C while something goes on without the command: whoever pressed it has to know.
type interruption struct{ goesOn string }

func (i *interruption) Error() string { return "interrupted: " + i.goesOn }

// Unwrap returns context.Canceled.
func (i *interruption) Unwrap() error { return context.Canceled }

// interruptedf says what goes on, or how to take it up again, after a Ctrl-C.
func interruptedf(format string, args ...any) error {
	return &interruption{fmt.Sprintf(format, args...)}
}

// Code is the exit code for err.
func Code(err error) int {
	var fail *Fail
	var invalid spec.Errors
	var namespace *serviceerror.NamespaceNotFound
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &namespace): // Temporal answers, whatever was asked
		return ExitUsage
	case errors.As(err, &fail):
		return fail.Code
	case errors.As(err, &invalid):
		return ExitUsage
	case errors.Is(err, context.Canceled):
		return ExitInterrupted
	}
	return ExitFailed
}

// Report prints err for a person, one line per problem.
func Report(w io.Writer, err error) {
	if err == nil {
		return
	}
	err = worded(err)
	var invalid spec.Errors
	if errors.As(err, &invalid) {
		fmt.Fprintln(w, err)
		return
	}
	fmt.Fprintln(w, "millrace: "+strings.ReplaceAll(err.Error(), "\n", "\nmillrace: "))
}

// failure is an error as --json prints it.
type failure struct {
	Error string `json:"error"`
	Code  int    `json:"code"` // the exit code
}

// reportJSON prints err for a program, as one object on one line.
func reportJSON(w io.Writer, err error) {
	if err == nil {
		return
	}
	_ = printJSON(w, failure{Error: worded(err).Error(), Code: Code(err)}) // nobody is left to tell
}

// worded returns what of err says something to its reader: where in the program an interruption was noticed does not.
func worded(err error) error {
	var told *interruption
	var namespace *serviceerror.NamespaceNotFound
	switch {
	case errors.As(err, &namespace):
		return usagef("Temporal has no namespace %q: give --namespace, or set TEMPORAL_NAMESPACE", namespace.Namespace)
	case errors.As(err, &told):
		return told
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	}
	return err
}
