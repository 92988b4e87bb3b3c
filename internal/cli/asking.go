package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"go.temporal.io/sdk/client"

	"millrace/internal/contract"
)

const (
	askLook   = time.Second      // interval between looks at what an unanswered request waits for
	askSilent = 2 * time.Second  // a request that is answered sooner prints nothing
	askLimit  = 2 * time.Second  // bound of one look
	askAgain  = 10 * time.Second // least interval between two lines about the same thing
	// askPatience is how long a command waits for an answer that has no bound of its own.
	askPatience = 5 * time.Minute
)

// receipt is the answer to a request.
type receipt interface {
	Past() contract.Past
	MarkRepeated()
}

// asking is one request to a workflow. It is sent, followed until it is answered, and compared with what was asked before under
// the same id.
type asking struct {
	sh        *shell
	c         client.Client
	id        string // of the workflow
	run       string // of it; empty: the latest
	update    string
	requestID string // empty: a new one
	request   any
	wait      time.Duration                      // how long the command waits for the answer
	look      string                             // the command that shows what goes on without this one
	explain   func(context.Context, error) error // turns Temporal's errors into a person's

	said   map[string]saying
	misses int // consecutive looks that failed
}

// saying is the last line printed about one thing.
type saying struct {
	text string
	at   time.Time
}

// send sends the request and waits for its receipt. Within a few seconds it says what an answer waits for, until when, and what
// then; after a.wait it leaves the request to itself.
func (a *asking) send(ctx context.Context, into receipt) error {
	repeated := false
	if a.requestID == "" {
		a.requestID = uuid.NewString()
	} else {
		var err error
		if repeated, err = a.before(ctx); err != nil {
			return err
		}
	}
	asked, cancel := context.WithTimeout(ctx, a.wait)
	defer cancel()
	answer := make(chan error, 1)
	go func() { answer <- a.ask(asked, into) }()
	err := a.follow(asked, answer)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return interruptedf("the request goes on; ask again with --request-id %s to get its receipt", a.requestID)
	case asked.Err() != nil, timedOut(err):
		return incompletef("%s: no answer within %s; the request goes on without this command. Look with `%s`, or ask again with "+
			"--request-id %s to get its receipt", a.subject(), a.wait, a.look, a.requestID)
	default:
		return a.explain(ctx, err)
	}
	// Temporal answers a repeated id with what came of it first, whatever is asked for.
	if err := into.Past().Repeats(a.update, contract.Fingerprint(a.request)); err != nil {
		return err
	}
	if repeated {
		into.MarkRepeated()
	}
	return nil
}

// timedOut reports whether Temporal's client ended the wait, which it may do a moment before the context does.
func timedOut(err error) bool {
	var late *client.WorkflowUpdateServiceTimeoutOrCanceledError
	return errors.As(err, &late)
}

// before reports whether the workflow knows the request id, and refuses an id that was used for something else. When the
// workflow does not answer the query, the request is sent all the same.
func (a *asking) before(ctx context.Context) (repeated bool, err error) {
	var known heard
	if queryWorkflow(ctx, a.c, a.id, "", &known) != nil {
		return false, ctx.Err()
	}
	for _, past := range known.Receipts {
		if past.RequestID == a.requestID {
			return true, past.Repeats(a.update, contract.Fingerprint(a.request))
		}
	}
	for _, p := range known.Pending {
		if p.RequestID == a.requestID {
			return true, nil
		}
	}
	return false, nil
}

// heard is the part of a workflow's status that asking reads, whatever the type of the workflow.
type heard struct {
	State    string             `json:"state"`
	Note     string             `json:"note"`
	Receipts []contract.Past    `json:"receipts"`
	Pending  []contract.Pending `json:"pending"`
}

func (a *asking) ask(ctx context.Context, into any) error {
	handle, err := a.c.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
		UpdateID: a.requestID, WorkflowID: a.id, RunID: a.run, UpdateName: a.update, Args: []any{a.request},
		WaitForStage: client.WorkflowUpdateStageCompleted,
	})
	if err == nil {
		err = handle.Get(ctx, into)
	}
	return err
}

func (a *asking) follow(ctx context.Context, answer <-chan error) error {
	tick := time.NewTicker(askLook)
	defer tick.Stop()
	a.said = make(map[string]saying)
	for began := time.Now(); ; {
		select {
		case err := <-answer:
			return err
		case <-tick.C:
			if time.Since(began) >= askSilent {
				a.tell(ctx)
			}
		}
	}
}

// tell says what the answer waits for, as the workflow and its activities know it.
func (a *asking) tell(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	var now heard
	if err := queryWorkflow(limited, a.c, a.id, "", &now); err != nil {
		if a.misses++; ctx.Err() == nil && a.misses > 1 {
			a.say("query", "waits for a worker that answers for workflow "+a.id+": see that one runs and reaches Temporal")
		}
		return
	}
	a.misses = 0
	told, asked := false, []string{a.requestID}
	for _, p := range now.Pending {
		if p.RequestID == a.requestID && p.Behind != "" {
			asked = append(asked, p.Behind)
		}
	}
	for _, p := range now.Pending {
		if slices.Contains(asked, p.RequestID) || p.Update == "" {
			a.say(p.For, p.String())
			told = true
		}
	}
	for _, activity := range []string{contract.ActivityAwaitApplied, contract.ActivityAwaitDrained} {
		if lanes, at := beatOf[contract.AwaitDetails](limited, a.c, a.id, activity); at != nil {
			a.say(activity, lanes.String())
			told = true
		}
	}
	if !told {
		a.say("state", strings.TrimSpace("waits for workflow "+a.id+", which is "+now.State+" "+now.Note))
	}
}

// say prints a line about something unless it is what was printed last. A text that keeps changing, such as where a lane
// stands, is printed at most once per askAgain.
func (a *asking) say(about, text string) {
	last := a.said[about]
	if last.text == text || time.Since(last.at) < askAgain && last.text != "" {
		return
	}
	a.said[about] = saying{text, time.Now()}
	fmt.Fprintf(a.sh.err, "%s: %s\n", a.subject(), text)
}

func (a *asking) subject() string { return a.update + " of " + a.id }
