package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// Kinds of Problem.
const (
	ProblemConservation = "conservation" // a lane's counters do not add up
	ProblemTopic        = "topic"        // a lane's state belongs to a topic that was deleted and made again
	ProblemInput        = "input"        // a lane has not read each record below its offset exactly once
	ProblemLoss         = "state-lost"   // slices of a lane are gone from Redis
	ProblemState        = "state"        // a lane's state is there and cannot be read, or is of another spec
	ProblemEntries      = "entries"      // a slice's entries do not add up to what the lane folded there
	ProblemLedger       = "ledger"       // ledger records contradict each other
	ProblemResults      = "results"      // published rows contradict the ledger, or stand twice
	ProblemView         = "view"         // Redis shows something else than the ledger topic
	ProblemLate         = "late"         // late events are missing in the late topic
	ProblemUnhealthy    = "unhealthy"    // status does not call the pipeline healthy
)

// State is what verifying reads of Redis; *store.Store is one.
type State interface {
	WholeIndex(ctx context.Context, id store.LaneID, stateID string) (store.LaneIndex, error)
	ReadContent(ctx context.Context, id store.LaneID, stateID string, x *store.SliceIndex, buckets int,
		fn func(key, entry []byte) error) (store.Guard, error)
	Published(ctx context.Context, id store.WindowID) (p store.Published, found bool, err error)
	ReadDirectory(ctx context.Context, id store.WindowID, rev int) (store.View, []byte, error)
	ReadViewFields(ctx context.Context, id store.WindowID, whole int, names []string, fn func(i int, value []byte) error) error
	ReadRows(ctx context.Context, id store.WindowID, keys []string) (store.RowsRead, error)
}

// Kafka is what verifying reads of a cluster; *source.Cluster is one.
type Kafka interface {
	ledger.Log
	Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error)
	// Topic asks for the topic's incarnation of now; its id is "" when the brokers know none.
	Topic(ctx context.Context, name string) (source.Topic, error)
}

// Config says what to verify.
type Config struct {
	Spec  *spec.Spec
	State State
	Kafka Kafka
	// Input reads every source partition up to its lane's offset and counts the records. It is exact for logs of which
	// nothing has been deleted yet.
	Input bool
	// Late reads the late topic; nil leaves it out.
	Late LateReader
	// Slots is the number of partitions of the ledger topic (default ledger.DefaultSlots).
	Slots int
	// Now is the clock that decides what has expired (default time.Now).
	Now func() time.Time
}

// Problem is something that must not be.
type Problem struct {
	Kind   string `json:"kind"`
	Where  string `json:"where"`
	Detail string `json:"detail"`

	about revisionID // the revision that is wrong; the zero value when the problem is about something else
}

// LaneCheck is what became of a lane's records.
type LaneCheck struct {
	Lane     string         `json:"lane"`
	Offset   int64          `json:"offset"` // committed; -1 when the lane has committed nothing
	End      int64          `json:"end"`    // of the log, for read_committed readers
	Counters store.Counters `json:"counters"`
	Slices   int            `json:"slices"`
	Entries  int64          `json:"entries"`
	// Records is how many records the log holds below Offset, -1 when they were not counted or some are deleted already.
	Records int64 `json:"records"`
	// Late is how many different late events of the lane stand in the late topic, -1 when it was not read.
	Late int64 `json:"late"`
	// Void is how many of them were decided anew after Redis lost the seal that made them late: they are in a revision.
	Void int64 `json:"void"`
	// Busy means that the lane was in the middle of a commit at every look; its entries were not compared.
	Busy bool `json:"busy,omitempty"`
}

// Report is what Run found.
type Report struct {
	Pipeline  string         `json:"pipeline"`
	Totals    store.Counters `json:"totals"`
	Lanes     []LaneCheck    `json:"lanes"`
	Windows   int            `json:"windows"`   // in the ledger
	Final     int            `json:"final"`     // of these
	Certified int            `json:"certified"` // windows whose latest revision was counted again and came out the same
	Expired   int            `json:"expired"`   // windows whose ledger row was given up, as far as the topic still says
	Revisions int            `json:"revisions"` // in the result topic
	Rows      int64          `json:"rows"`      // in the result topic

	Unarchived   int       `json:"unarchived,omitempty"` // windows whose contents stay beyond their retention, until they are archived
	ViewsExpired int       `json:"views_expired"`        // windows in the ledger whose contents in Redis have expired, as they should
	Problems     []Problem `json:"problems"`
	Notes        []string  `json:"notes,omitempty"` // what is no problem, and has to be known
}

// OK reports whether everything is as it must be.
func (v *Report) OK() bool { return len(v.Problems) == 0 }

// Add puts a problem that was found elsewhere into the report.
func (v *Report) Add(p Problem) { v.Problems = append(v.Problems, p) }

func (v *Report) problem(kind, where, format string, args ...any) {
	v.Problems = append(v.Problems, Problem{Kind: kind, Where: where, Detail: fmt.Sprintf(format, args...)})
}

// Run checks a pipeline's invariants: per lane every record is counted once and the entries add up; the ledger is
// without gaps and contradictions; published rows are what the ledger says, each once; Redis shows what the ledger says.
// It only reads, and may run at any time. An error means that something could not be read.
func Run(ctx context.Context, cfg Config) (*Report, error) {
	if cfg.Slots == 0 {
		cfg.Slots = ledger.DefaultSlots
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	v := &Report{Pipeline: cfg.Spec.Name, Problems: []Problem{}}
	for _, topic := range slices.Compact(slices.Sorted(slices.Values(cfg.Spec.Source.Topics))) {
		partitions, err := cfg.Kafka.Partitions(ctx, topic)
		if err != nil {
			return nil, fmt.Errorf("partitions of topic %s: %w", topic, err)
		}
		for _, p := range slices.Sorted(slices.Values(partitions)) {
			check, err := v.checkLane(ctx, &cfg, store.LaneID{Pipeline: cfg.Spec.Name, Topic: topic, Partition: p})
			if err != nil {
				return nil, err
			}
			v.Lanes = append(v.Lanes, check)
		}
	}
	if cfg.Late != nil {
		if err := v.checkLate(ctx, &cfg); err != nil {
			return nil, err
		}
	}
	return v, v.checkPublished(ctx, &cfg)
}

// publishedLooks is how often what was published is read before a contradiction in it counts.
const publishedLooks = 3

// checkPublished compares ledger, results and view. They cannot be read at one instant, and an open transaction hides those
// behind it, so of a pipeline that goes on closing only the windows count that every look finds something wrong with.
func (v *Report) checkPublished(ctx context.Context, cfg *Config) error {
	var found []Problem
	for look := 1; ; look++ {
		now := &Report{}
		topic, err := now.checkLedger(ctx, cfg)
		if err != nil {
			return err
		}
		if sink := cfg.Spec.Results.Kafka; sink != nil {
			if err := now.checkResults(ctx, cfg, sink.Topic, topic); err != nil {
				return err
			}
		}
		if err := now.checkStates(ctx, cfg, topic); err != nil {
			return err
		}
		if err := now.checkView(ctx, cfg, topic); err != nil {
			return err
		}
		now.leaveMended(topic)
		v.Windows, v.Final, v.Certified, v.Expired = now.Windows, now.Final, now.Certified, now.Expired
		v.Revisions, v.Rows, v.ViewsExpired, v.Unarchived = now.Revisions, now.Rows, now.ViewsExpired, now.Unarchived
		if look == 1 {
			found = now.Problems
		} else {
			found = slices.DeleteFunc(now.Problems, func(p Problem) bool {
				return !slices.ContainsFunc(found, func(q Problem) bool { return p.Kind == q.Kind && p.Where == q.Where })
			})
		}
		if len(found) == 0 || look == publishedLooks {
			v.Problems, v.Notes = append(v.Problems, found...), append(v.Notes, now.Notes...)
			return nil
		}
		if err := awaitMarkers(ctx, cfg); err != nil {
			return err
		}
	}
}

// countRecords counts what a read_committed reader finds from begun up to offset; -1 when the log begins behind that by now. Batches
// that cannot be decoded hold nothing that it finds: a lane that has gone past one has given it up.
func countRecords(ctx context.Context, k Kafka, tp source.TopicPartition, ends source.Ends, begun, offset int64) (int64, error) {
	if ends.Start > begun {
		return -1, nil
	}
	n := int64(0)
	for from := begun; ; {
		_, err := k.ReadCommitted(ctx, tp, from, func(r source.Record) error {
			if r.Offset < offset {
				n++
			}
			return nil
		})
		var bad *source.DecodeError
		if !errors.As(err, &bad) {
			return n, err
		}
		if bad.Next <= from || bad.Next >= offset {
			return n, nil
		}
		from = bad.Next
	}
}
