package chaos

import (
	"context"
	"fmt"
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
		what, seqs := r.holding()
		w.last = time.Now()
		if what == "" || what != w.what {
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

// holding describes who owns each lane and who is in the consumer group; "" when a lane has no owner that runs, or when
// a replica or a member is about to move.
func (r *run) holding() (what string, seqs []int64) {
	holders := make([]string, r.plan.Partitions)
	for _, w := range r.workers {
		if !w.running() {
			continue
		}
		v, ok := w.look()
		if !ok {
			return "", nil
		}
		for n := range v.lanes {
			if holders[n] != "" {
				return "", nil
			}
			holders[n] = w.name
		}
	}
	for n, holder := range holders {
		m, found := r.pipeline.Meta(int32(n))
		if holder == "" || !found {
			return "", nil
		}
		seqs = append(seqs, m.Cursor.Seq)
		what += fmt.Sprintf("lane %d: %s as %s\n", n, holder, m.Owner)
	}
	if !r.placed() {
		return "", nil
	}
	members, ok := r.members()
	if !ok {
		return "", nil
	}
	return what + members, seqs
}

// placed tells whether every replica is where it is going to stay. While Temporal is away none can be placed anew.
func (r *run) placed() bool {
	away := false
	for _, f := range r.active {
		away = away || f.target() == temporal
	}
	if away {
		for _, w := range r.workers {
			if !w.running() {
				return false
			}
		}
		return true
	}
	for n := range r.plan.Replicas {
		holder := r.holder(n)
		ok := false
		for _, w := range r.workers {
			ok = ok || w.running() && w.name == holder
		}
		if !ok {
			return false
		}
	}
	return true
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

// members lists the consumer group; ok is false while it changes or lacks a replica.
func (r *run) members() (list string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = []string{engine.Group(r.pipeline.Spec.Name)}
	resp, err := req.RequestWith(ctx, r.world.Raw)
	if err != nil || len(resp.Groups) != 1 || resp.Groups[0].State != "Stable" || len(resp.Groups[0].Members) != r.plan.Replicas {
		return "", false
	}
	var ids []string
	for _, m := range resp.Groups[0].Members {
		ids = append(ids, m.MemberID)
	}
	return strings.Join(ids, " "), true
}
