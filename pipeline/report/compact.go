package report

// Ref is which window it is.
func (u *Unfinished) Ref() WindowRef { return WindowRef{Window: u.Window, Start: u.Start} }

// ChildRef is which window it is about; ok is false when it is about none but itself.
func (u *Unfinished) ChildRef() (ref WindowRef, ok bool) {
	return WindowRef{Window: u.Child, Start: u.ChildStart}, u.Child != ""
}

// MaxUnfinished bounds the windows that an Archived names.
const MaxUnfinished = 100

// Archived is what archiving windows did and what it left.
type Archived struct {
	Families []ArchivedFamily `json:"families"`         // in the order of the spec
	Failed   []Unfinished     `json:"failed,omitempty"` // at most MaxUnfinished; the families count all
}

// ArchivedFamily is what became of the windows of one family.
type ArchivedFamily struct {
	Name   string `json:"name"`
	Files  int    `json:"files"`
	Bytes  int64  `json:"bytes"` // of the files
	Moved  int    `json:"moved"` // windows that were published again meanwhile: the next run archives them
	Failed int    `json:"failed"`
	Gone   int    `json:"gone,omitempty"` // windows whose contents had gone before they were to be archived
}
