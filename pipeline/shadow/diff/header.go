package diff

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/ledger"
)

// HeaderVersion is the version of headers that this program writes and reads.
const HeaderVersion = 1

// Header says what a shadow has found out about one window.
type Header struct {
	Version  int    `json:"version"`
	Equal    bool   `json:"equal"`             // keys, events and checksum are those of the base
	Problem  string `json:"problem,omitempty"` // why the window could not be compared; there is no difference then
	Lateness string `json:"lateness"`
	Scope    string `json:"scope"`

	// The revision that the content was compared with. Revision 0: the window was never published.
	BaseEdition  int    `json:"base_edition,omitempty"`
	BaseRevision int    `json:"base_revision"`
	BaseChecksum string `json:"base_checksum,omitempty"`
	BaseKeys     int64  `json:"base_keys"`
	BaseEvents   int64  `json:"base_events"`
	BaseSpec     string `json:"base_spec,omitempty"`

	// Row is the ledger row that a correction publishes, with what was counted: keys, events, checksum and covers of the lanes.
	Row ledger.Row `json:"row"`

	// Wrong are the places that hold something else than was counted, when the shadow was asked to look at them.
	Wrong []Wrong `json:"wrong,omitempty"`

	// Whole says that the pages hold the whole content that was counted, since what is published of the window is not to be
	// relied on. A correction publishes it even when Equal: that row is right, and what it is about is not.
	Whole bool `json:"whole,omitempty"`
	// Taken is the highest revision that a record of the window names although the ledger has no such row: a correction is
	// published above it. 0 without one.
	Taken int `json:"taken,omitempty"`

	Added     int64  `json:"added"`
	Changed   int64  `json:"changed"`
	Removed   int64  `json:"removed"`
	Unchanged int64  `json:"unchanged,omitempty"` // rows of whole pages, and those of which only the state differs
	Pages     int    `json:"pages"`
	Digest    string `json:"digest,omitempty"` // SHA-256 over the pages, 32 hex digits
}

// MaxWrongKeys is how many keys a Wrong names.
const MaxWrongKeys = 20

// Wrong says how a place differs from what was counted.
type Wrong struct {
	Place   string            `json:"place"`
	Detail  string            `json:"detail"`            // for people
	Missing int64             `json:"missing,omitempty"` // keys that were counted and do not stand there
	Other   int64             `json:"other,omitempty"`   // keys that stand there with other values
	Extra   int64             `json:"extra,omitempty"`   // keys that stand there and were not counted, or once more
	Keys    []json.RawMessage `json:"keys,omitempty"`    // the first of all these, at most MaxWrongKeys
}

// AddKey names a key, as far as there is room.
func (w *Wrong) AddKey(key []byte) {
	if len(w.Keys) < MaxWrongKeys && !slices.ContainsFunc(w.Keys, func(k json.RawMessage) bool { return bytes.Equal(k, key) }) {
		w.Keys = append(w.Keys, bytes.Clone(key))
	}
}

// Agrees reports whether the window is everywhere as it was counted.
func (h *Header) Agrees() bool { return h.Equal && len(h.Wrong) == 0 }

// WrongPlaces names the places that are wrong, "" when none is.
func (h *Header) WrongPlaces() string {
	places := make([]string, len(h.Wrong))
	for i := range h.Wrong {
		places[i] = h.Wrong[i].Place
	}
	return strings.Join(places, ", ")
}

// Count counts a row of the pages.
func (h *Header) Count(r *Row) {
	switch r.Kind() {
	case Added:
		h.Added++
	case Changed:
		h.Changed++
	case Removed:
		h.Removed++
	case Unchanged:
		h.Unchanged++
	}
}

// ID names the window.
func (h *Header) ID() ledger.WindowID { return h.Row.ID() }

// Rows is how many keys differ.
func (h *Header) Rows() int64 { return h.Added + h.Changed + h.Removed }

// Encode renders the header as it is kept. Equal headers have equal bytes.
func (h *Header) Encode() ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("header of %s: %w", h.ID(), err)
	}
	return b, nil
}

// ParseHeader reads what Encode wrote.
func ParseHeader(b []byte) (*Header, error) {
	h := new(Header)
	if err := json.Unmarshal(b, h); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	if h.Version > HeaderVersion {
		return nil, fmt.Errorf("header of %s has version %d, this version of millrace reads up to %d; update millrace",
			h.ID(), h.Version, HeaderVersion)
	}
	return h, nil
}

// Digest is a running checksum of the pages of a window, or of the headers of a shadow.
type Digest struct{ sum [sha256.Size]byte }

// Add takes the next bytes in.
func (d *Digest) Add(b []byte) {
	h := sha256.New()
	h.Write(d.sum[:])
	h.Write(b)
	h.Sum(d.sum[:0])
}

// String is 32 hexadecimal digits.
func (d *Digest) String() string { return hex.EncodeToString(d.sum[:16]) }
