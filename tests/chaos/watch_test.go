package chaos

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"millrace/internal/contract"
	"millrace/pipeline/engine"
)

// watch looks at who holds what, for rule 2.
type watch struct {
	last  time.Time
	since time.Time // since when nothing has changed
	what  string    // what it is that has not changed
	why   string    // why it is not safe
	seqs  []int64   // of the lanes' commits, then
}

const (
	watchEvery = 250 * time.Millisecond
	keptFor    = 3 * time.Second
)

// kept tells whether the state of every lane is safe in the memory of a running worker that will go on holding it.
func (r *run) kept() bool {
	w := &r.watch
	if time.Since(w.last) > 2*time.Second {
		w.what = "" // nobody has looked for a while
	}
	if time.Since(w.last) >= watchEvery {
		what, seqs, why := r.holding()
		w.last = time.Now()
		if why != w.why && why != "" {
			r.say("  not safe: %s", why)
		}
		w.why = why
		if why != "" || what != w.what {
			w.what, w.since, w.seqs = what, w.last, seqs
			return false
		}
		if w.last.Sub(w.since) < keptFor {
			return false
		}
		for n := range seqs {
			if seqs[n] < w.seqs[n]+2 {
				return false
			}
		}
		w.what = ""
		return true
	}
	return false
}

// holding describes who owns each lane and who is in the consumer group, or says why that is not safe: a lane has no
// owner that runs, or a replica or a member is about to move.
func (r *run) holding() (what string, seqs []int64, why string) {
	holders := make([]string, r.plan.Partitions)
	for _, w := range r.workers {
		if !w.running() {
			continue
		}
		v, ok := w.look()
		if !ok {
			return "", nil, w.name + " does not answer"
		}
		for n := range v.lanes {
			if holders[n] != "" {
				return "", nil, fmt.Sprintf("%s and %s both have lane %d", w.name, holders[n], n)
			}
			holders[n] = w.name
		}
	}
	for n, holder := range holders {
		m, found := r.pipeline.Meta(int32(n))
		if holder == "" || !found {
			return "", nil, fmt.Sprintf("nobody has lane %d", n)
		}
		seqs = append(seqs, m.Cursor.Seq)
		what += fmt.Sprintf("lane %d: %s as %s\n", n, holder, m.Owner)
	}
	if why := r.unplaced(); why != "" {
		return "", nil, why
	}
	members, why := r.members()
	return what + members, seqs, why
}

// unplaced says which replica is not where it is going to stay. While Temporal is away none can be placed anew.
func (r *run) unplaced() string {
	running := make(map[string]bool)
	for _, w := range r.workers {
		running[w.process.Name] = w.running()
	}
	if slices.ContainsFunc(r.active, func(f *fault) bool { return f.target() == temporal }) {
		for name, ok := range running {
			if !ok {
				return name + " does not run"
			}
		}
		return ""
	}
	for n := range r.plan.Replicas {
		if holder := r.holder(n); !running[holder] {
			return fmt.Sprintf("replica %d is placed on %q", n, holder)
		}
	}
	return ""
}

// holder is the worker that a replica runs on, "" when it is not known.
func (r *run) holder(n int) string {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	answer, err := r.world.Client.QueryWorkflow(ctx, contract.ReplicaID(r.pipeline.Spec.Name, n), "", contract.QueryStatus)
	var s contract.ReplicaStatus
	if err != nil || answer.Get(&s) != nil || s.State != contract.ChildPlaced || len(s.Placements) == 0 {
		return ""
	}
	if last := s.Placements[len(s.Placements)-1]; last.Ended == "" {
		return last.Worker
	}
	return ""
}

// members lists the consumer group, or says why it is not at rest.
func (r *run) members() (list, why string) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{engine.Group(r.pipeline.Spec.Name)}
	resp, err := req.RequestWith(ctx, r.world.Raw)
	if err != nil || len(resp.Groups) != 1 {
		return "", fmt.Sprintf("the consumer group is not known: %v", err)
	}
	group := resp.Groups[0]
	if group.State != "Stable" || len(group.Members) != r.plan.Replicas {
		return "", fmt.Sprintf("the consumer group is %s with %d members", group.State, len(group.Members))
	}
	var ids []string
	for _, m := range group.Members {
		ids = append(ids, m.MemberID)
	}
	slices.Sort(ids) // a broker lists them in any order
	return strings.Join(ids, " "), ""
}
