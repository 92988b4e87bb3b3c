package store

import (
	"fmt"

	"github.com/redis/go-redis/v9"
)

// RefusalError is an answer by which Redis refuses to write, or to serve at all, for a reason that an operator can mend. It is
// no decision of the protocol: the same call may be accepted later.
type RefusalError struct {
	Code string // the first word of the answer, such as READONLY
	Err  error  // the answer
}

// refusals says for every code what it means and what to do.
var refusals = map[string]string{
	"READONLY":    "the server is a read-only replica; point the workers at the primary, or promote this server (REPLICAOF NO ONE)",
	"OOM":         "the server's memory is full (maxmemory reached, nothing may be evicted); raise maxmemory, or remove what is not needed",
	"MISCONF":     "the server cannot save to its disk; free disk space and mend its persistence (see its log)",
	"NOREPLICAS":  "the primary has fewer replicas than min-replicas-to-write; bring the replicas back, or lower it",
	"LOADING":     "the server still loads its data; it takes writes when it has",
	"CLUSTERDOWN": "the Cluster does not serve all slots; bring the missing primaries back (CLUSTER INFO)",
	"MASTERDOWN":  "the server is a replica whose primary is away; point the workers at the new primary",
	"NOPERM":      "the user may not run a command that is needed; grant it (ACL SETUSER)",
	"NOAUTH":      "the server wants a password; give the workers one",
	"WRONGPASS":   "the server does not know this user and password; correct them",
}

func (e *RefusalError) Error() string {
	return fmt.Sprintf("redis refuses with %s: %s (%v)", e.Code, refusals[e.Code], e.Err)
}

func (e *RefusalError) Unwrap() error { return e.Err }

// explained returns err as a RefusalError if it is an answer of that kind, and err itself otherwise.
func explained(err error) error {
	if err == nil {
		return nil
	}
	for code := range refusals {
		if redis.HasErrorPrefix(err, code+" ") {
			return &RefusalError{Code: code, Err: err}
		}
	}
	return err
}
