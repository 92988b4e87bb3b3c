package ledger

import (
	"fmt"

	"millrace/pipeline/window"
)

// How a replay counted what was late, in ReplayOrigin.Lateness.
const (
	LatenessAsRead   = "as-read"   // every event was decided as the lanes had decided it
	LatenessNone     = "none"      // everything that ever arrived counts
	LatenessFromLate = "from-late" // as read, and what stands in the late topic counts, too
)

// ReplayOrigin says which approved replay a revision comes from, and what it was compared with.
type ReplayOrigin struct {
	ID           string `json:"id"`
	BaseRevision int    `json:"base_revision"` // the revision that this one corrects
	BaseChecksum string `json:"base_checksum"`
	Lateness     string `json:"lateness"` // one of Lateness...
	Diff         string `json:"diff"`     // checksum of the difference that was approved
}

// Child is a revision whose states were merged into a rolled-up window.
type Child struct {
	Window   string
	Start    int64 // ms
	Revision int
	Checksum string
}

type childJSON struct {
	Window   string `json:"window"`
	Start    string `json:"start"`
	Revision int    `json:"revision"`
	Checksum string `json:"checksum"`
}

// Archive says in which file the content of a window was archived, or why in none.
type Archive struct {
	Gone   string // why nothing was left that could be archived; "" when there is a file
	File   string
	SHA256 string // of the file, in hex
	Bytes  int64
	At     int64 // ms, the archiver's clock
}

type archiveJSON struct {
	Gone   string `json:"gone,omitempty"`
	File   string `json:"file,omitempty"`
	SHA256 string `json:"sha256,omitempty"`
	Bytes  int64  `json:"bytes"`
	At     string `json:"at"`
}

// View names the content in Redis that a row belongs to: the whole revision that its pages stand under, and the attempt at
// publishing that which has written them.
type View struct {
	Whole   int    `json:"whole"`
	Attempt string `json:"attempt"`

	// Change is the attempt whose draft in Redis holds what the revision changes, until it is shown; "" of a whole revision,
	// and where a result topic has it.
	Change string `json:"change,omitempty"`
}

// attributesJSON is what rows say that lanes' rows of earlier releases do not.
type attributesJSON struct {
	Replay    *ReplayOrigin `json:"replay,omitempty"`
	Mends     string        `json:"mends,omitempty"`
	Children  []childJSON   `json:"children,omitempty"`
	ChildLate int64         `json:"child_late,omitempty"`
	States    *Link         `json:"states,omitempty"`       // of a revision that published all of them
	Linked    []Link        `json:"states_links,omitempty"` // of one that published what it changed, which earlier releases cannot read
	Archive   *archiveJSON  `json:"archive,omitempty"`
	Changed   int64         `json:"changed,omitempty"`
	View      *View         `json:"view,omitempty"`
}

func (r *Row) encodeAttributes() attributesJSON {
	out := attributesJSON{
		Replay: r.Replay, Mends: r.Mends, ChildLate: r.ChildLate, Changed: r.Changed, View: r.View,
	}
	if len(r.States) == 1 && r.States[0].Whole {
		out.States = &r.States[0]
	} else {
		out.Linked = r.States
	}
	for _, c := range r.Children {
		out.Children = append(out.Children, childJSON{c.Window, window.FormatTime(c.Start), c.Revision, c.Checksum})
	}
	if a := r.Archive; a != nil {
		out.Archive = &archiveJSON{a.Gone, a.File, a.SHA256, a.Bytes, window.FormatTime(a.At)}
	}
	return out
}

func (r *Row) decodeAttributes(in *attributesJSON) error {
	r.Replay, r.Mends, r.ChildLate = in.Replay, in.Mends, in.ChildLate
	if r.States = in.Linked; in.States != nil {
		r.States = []Link{*in.States}
	}
	r.Changed, r.View = in.Changed, in.View
	for _, c := range in.Children {
		start, err := window.ParseTime(c.Start)
		if err != nil {
			return fmt.Errorf("children: %w", err)
		}
		r.Children = append(r.Children, Child{c.Window, start, c.Revision, c.Checksum})
	}
	if a := in.Archive; a != nil {
		at, err := window.ParseTime(a.At)
		if err != nil {
			return fmt.Errorf("archive: %w", err)
		}
		r.Archive = &Archive{a.Gone, a.File, a.SHA256, a.Bytes, at}
	}
	return nil
}

// KeepAttributes takes over from an earlier row about the same content what r says nothing of itself.
func (r *Row) KeepAttributes(earlier *Row) {
	if r.Replay == nil {
		r.Replay = earlier.Replay
	}
	if r.Mends == "" {
		r.Mends = earlier.Mends
	}
	if r.Children == nil {
		r.Children, r.ChildLate = earlier.Children, earlier.ChildLate
	}
	if r.States == nil {
		r.States = earlier.States
	}
	if r.Archive == nil {
		r.Archive = earlier.Archive
	}
	if r.View == nil {
		r.Changed, r.View = earlier.Changed, earlier.View
	}
}

// ByLanes reports whether lanes counted the revision. Final rows of others may follow their final row.
func (r *Row) ByLanes() bool { return r.Reason != ReasonReplay && r.Reason != ReasonRollup }

// coversLanes reports whether the row's covers say what the lanes themselves had read. A replay that counts everything that
// ever arrived reads beyond them.
func (r *Row) coversLanes() bool {
	return r.ByLanes() || r.Reason == ReasonReplay && r.Replay != nil && r.Replay.Lateness != LatenessNone
}
