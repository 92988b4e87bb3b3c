package report

import "strconv"

// LaneRef names a lane of a pipeline.
type LaneRef struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

// String is topic/partition, as people read it.
func (r LaneRef) String() string { return r.Topic + "/" + strconv.Itoa(int(r.Partition)) }

// LaneEnd is the last stable offset of a lane's partition.
type LaneEnd struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	End       int64  `json:"end"`
}

// LaneReceipt is one lane's committed position.
type LaneReceipt struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"` // next offset to read: everything below is included
	Owner     string `json:"owner,omitempty"`
}

// LaneMissing is a lane that has not done what was asked.
type LaneMissing struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
	Want      int64  `json:"want,omitempty"` // the offset it should have reached, for a drain
	Reason    string `json:"reason"`
	Asks      bool   `json:"asks,omitempty"` // it is parked until somebody decides
}

// Lane is which lane it is.
func (m *LaneMissing) Lane() LaneRef { return LaneRef{m.Topic, m.Partition} }

// LaneStatus is one lane of a hot path.
type LaneStatus struct {
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	State     string  `json:"state"`
	Reason    string  `json:"reason,omitempty"`
	Offset    int64   `json:"offset"`
	Lag       int64   `json:"lag"`
	Watermark int64   `json:"watermark"` // ms
	Rate      float64 `json:"events_per_second"`
	Epoch     int64   `json:"epoch"`

	Choices []string `json:"choices,omitempty"` // what can be decided about a parked lane, see RecoverLanes

	// Refused says why records were refused since the lane was acquired: at most contract.MaxRefused reasons, the most frequent
	// first. Only the MaxRefusedLanes lanes of a hot path that refused most have examples.
	Refused []RefusedRecords `json:"refused,omitempty"`
	// RefusesAll says that every record was refused since the lane was acquired; Reason says why.
	RefusesAll bool `json:"refuses_all,omitempty"`

	// StateFormat is the version of the lane's state: 1 for entries in fields of hashes, 2 for pages. 0: no commit of its owner
	// has said so. KeepsFields says why one in fields does not turn to pages, Pages what those of a lane in pages add up to.
	StateFormat int        `json:"state_format,omitempty"`
	KeepsFields string     `json:"keeps_fields,omitempty"`
	Pages       *LanePages `json:"pages,omitempty"`

	Times *LaneTimes `json:"times,omitempty"`
}

// LanePages is what the pages of lanes add up to.
type LanePages struct {
	Pages int   `json:"pages"` // that hold the content
	Bytes int64 `json:"bytes"` // of them
	Runs  int   `json:"runs"`  // of the slice with the most runs above its last whole one
	// InFields is how many entries belong to slices of which a part is in fields still: these turn when they change enough.
	InFields int `json:"in_fields,omitempty"`
	// Dirtied entries have changed, and Written ones were written for that, since the lane was acquired.
	Dirtied int64 `json:"entries_dirtied"`
	Written int64 `json:"entries_written"`
}

// Amplification is how many entries were written for one that had changed, 0 when none has.
func (p *LanePages) Amplification() float64 {
	if p.Dirtied == 0 {
		return 0
	}
	return float64(p.Written) / float64(p.Dirtied)
}

// Add sums up the pages of several lanes.
func (p *LanePages) Add(o *LanePages) {
	p.Pages += o.Pages
	p.Bytes += o.Bytes
	p.Runs = max(p.Runs, o.Runs)
	p.InFields += o.InFields
	p.Dirtied += o.Dirtied
	p.Written += o.Written
}

// Times is where the time of a goroutine went: seconds by stage of its work.
type Times map[string]float64

// LaneTimes is where the last minute of a lane went, or of all lanes of a hot path.
type LaneTimes struct {
	Span      float64 `json:"span"` // seconds, of one lane
	Lane      Times   `json:"lane"`
	Reader    Times   `json:"reader,omitempty"`
	Committer Times   `json:"committer,omitempty"`
}

// RefusedRecords are the records that a lane has refused for one reason.
type RefusedRecords struct {
	Reason string         `json:"reason"` // as in the mr-reason header of dead letters
	Count  int64          `json:"count"`
	Last   *RefusedRecord `json:"last,omitempty"`
}

// RefusedRecord is an example of them.
type RefusedRecord struct {
	Offset int64  `json:"offset"`
	Detail string `json:"detail,omitempty"` // what stands there and what would be valid
	Value  string `json:"value,omitempty"`  // its beginning
}
