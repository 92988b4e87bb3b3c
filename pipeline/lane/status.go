package lane

import (
	"time"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// States a lane reports.
const (
	StateAcquiring = "acquiring"
	StateRestoring = "restoring"
	StateRunning   = "running"
	StatePaused    = "paused"  // by the operator
	StateBlocked   = "blocked" // Reason says by what: commits or memory
	StateParked    = "parked"  // Incident says why
	StateReleasing = "releasing"
)

// Trouble ranks the states of lanes: the greater, the sooner somebody should look.
func Trouble(state string) int {
	switch state {
	case StateParked:
		return 3
	case StateAcquiring, StateRestoring:
		return 2
	case StateBlocked:
		return 1
	}
	return 0
}

// Status is a snapshot of a lane for people and metrics. Times of events are in ms.
type Status struct {
	Topic      string                  `json:"topic"`
	Partition  int32                   `json:"partition"`
	State      string                  `json:"state"`
	Reason     string                  `json:"reason,omitempty"`
	Incident   *report.Incident        `json:"incident,omitempty"`
	Decisions  []report.Decision       `json:"decisions,omitempty"` // of the operator, the latest last
	Owner      store.Token             `json:"owner,omitempty"`
	Offset     int64                   `json:"offset"`    // next to read
	Committed  int64                   `json:"committed"` // durable in Redis
	End        int64                   `json:"end"`       // broker's high watermark as last heard, -1 before
	Watermark  *int64                  `json:"watermark,omitempty"`
	Counters   store.Counters          `json:"counters"`
	Refused    []report.RefusedRecords `json:"refused,omitempty"`     // by reason, since the lane was acquired
	RefusesAll bool                    `json:"refuses_all,omitempty"` // every record since then; Reason says why
	Slices     int                     `json:"slices"`
	Entries    int                     `json:"entries"`
	Bytes      int64                   `json:"bytes"`
	Rate       float64                 `json:"rate"` // records per second over the last second or more
	Commits    int64                   `json:"commits"`
	Written    int64                   `json:"entries_written"`       // Redis fields written since the lane was acquired
	EntryBytes float64                 `json:"entry_bytes,omitempty"` // of a key and its entry as written, on average
	CommitMs   float64                 `json:"commit_ms"`             // duration of the last commit
	GapMs      float64                 `json:"longest_commit_gap"`    // longest time between two acknowledged commits, ms
	Restored   *fold.Restored          `json:"restored,omitempty"`    // what the acquisition read
	CtlGen     int64                   `json:"ctl_gen"`               // desired state this lane follows

	StateFormat int               `json:"state_format,omitempty"` // store.FieldFormat or store.PageFormat, from the first commit on
	KeepsFields string            `json:"keeps_fields,omitempty"` // why a lane of FieldFormat does not turn to pages
	Pages       *report.LanePages `json:"pages,omitempty"`        // of a lane of PageFormat

	Journaled      int64 `json:"journaled,omitempty"`       // durable, in Redis or in the journal
	JournalCommits int64 `json:"journal_commits,omitempty"` // in the journal and not in Redis
	JournalBytes   int64 `json:"journal_bytes,omitempty"`

	Reseeds   int       `json:"reseeds,omitempty"` // times Redis was found to have forgotten writes
	Unsent    int64     `json:"unsent,omitempty"`  // records of a corrupt journal that were lost, with the late and dead-letter records in them
	UpdatedAt time.Time `json:"updated_at,omitempty"`
	Times     Times     `json:"-"`
}

// sayFormat says in which format the lane's state is committed, and why it is not in pages.
func (r *loop) sayFormat() {
	s := &r.now
	if !r.state.InPages() {
		s.StateFormat, s.KeepsFields, s.Pages = store.FieldFormat, r.deps.keepFields(), nil
		if s.KeepsFields == "" && r.state.Rereads() {
			s.KeepsFields = "records that its entries hold already are read again first"
		}
		return
	}
	p := r.state.Paging()
	s.StateFormat, s.KeepsFields = store.PageFormat, ""
	s.Pages = &report.LanePages{
		Pages: p.Pages, Bytes: p.Bytes, Runs: p.Runs, InFields: p.Beneath, Dirtied: p.Dirtied, Written: p.Written,
	}
}

// Lag is how many offsets wait in the log.
func (s *Status) Lag() int64 {
	if s.End < 0 {
		return 0
	}
	return max(0, s.End-s.Committed)
}
