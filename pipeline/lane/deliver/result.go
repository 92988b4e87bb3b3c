package deliver

import (
	"time"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/window"
)

// Result is the answer to a commit, or says that commits have left the journal for Redis.
type Result struct {
	Commit    *fold.Commit // nil when it is about the journal
	Journaled bool         // the commit is in the journal, not in Redis
	InRedis   bool         // Redis has everything up to Reached
	Reached   Progress
	Unsent    int64 // records of a journal that are lost with their side records; such a result says nothing else
	Err       error // nil, or an error that breaks the chain: see BreaksChain
	Took      time.Duration
	At        time.Time // when it was acknowledged
	Requests  Requests
}

// Progress is where the last of some commits has brought the lane.
type Progress struct {
	Seq       int64 // number of that commit
	Offset    int64
	Effective int64 // the greater of watermark and seal
	CtlGen    int64
	Hint      string // metadata of the group's offset
	Commits   int64
	Entries   int64
}

// Requests are what the closer asks of the lane.
type Requests struct {
	Seal    int64 // ms; window.NoTime when nothing is asked
	Drop    int64 // ms; window.NoTime when nothing is asked
	Rewrite int64 // number of a commit of this owner at which entries did not add up, 0 for none
}

// NoRequests is for a lane of which nothing is asked.
var NoRequests = Requests{Seal: window.NoTime, Drop: window.NoTime}

// Follow adopts what was asked later. Requests only ever grow.
func (r *Requests) Follow(next Requests) {
	r.Seal, r.Drop, r.Rewrite = max(r.Seal, next.Seal), max(r.Drop, next.Drop), max(r.Rewrite, next.Rewrite)
}
