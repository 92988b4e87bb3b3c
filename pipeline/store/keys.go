package store

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// LaneID names one lane: a partition of a topic read by a pipeline.
type LaneID struct {
	Pipeline  string
	Topic     string
	Partition int32
}

// String returns pipeline/topic/partition, which is also the lane's hash tag.
func (id LaneID) String() string {
	return id.Pipeline + "/" + id.Topic + "/" + strconv.FormatInt(int64(id.Partition), 10)
}

// WindowID names one window of a pipeline. Start is in ms.
type WindowID struct {
	Pipeline string
	Window   string
	Start    int64
}

// String returns pipeline/window/start, which is also the window's hash tag.
func (id WindowID) String() string {
	return id.Pipeline + "/" + id.Window + "/" + strconv.FormatInt(id.Start, 10)
}

// Token is the owner of a lane: "<epoch>:<32 hex digits>". The epoch is for people; only equality of the whole counts,
// because epochs roll back with Redis and are then issued twice.
type Token string

// NextToken returns a new token whose epoch follows prev's. prev may be empty.
func NextToken(prev Token) Token {
	var random [16]byte
	rand.Read(random[:])
	return Token(strconv.FormatInt(prev.Epoch()+1, 10) + ":" + hex.EncodeToString(random[:]))
}

// Epoch returns the number in front, 0 if there is none.
func (t Token) Epoch() int64 {
	head, _, _ := strings.Cut(string(t), ":")
	epoch, err := strconv.ParseInt(head, 10, 64)
	if err != nil {
		return 0
	}
	return epoch
}

// Cursor is the place of a call in a lane's chain: commit number and call within the commit.
type Cursor struct{ Seq, Chunk int64 }

// Less reports whether c comes before o.
func (c Cursor) Less(o Cursor) bool {
	return c.Seq < o.Seq || c.Seq == o.Seq && c.Chunk < o.Chunk
}

// NextCommit is the place of the first call of the commit after c.
func (c Cursor) NextCommit() Cursor { return Cursor{Seq: c.Seq + 1} }

// NextChunk is the place of the next call of the same commit.
func (c Cursor) NextChunk() Cursor { return Cursor{Seq: c.Seq, Chunk: c.Chunk + 1} }

// String returns seq:chunk.
func (c Cursor) String() string {
	return strconv.FormatInt(c.Seq, 10) + ":" + strconv.FormatInt(c.Chunk, 10)
}

// ParseCursor is the inverse of Cursor.String.
func ParseCursor(s string) (Cursor, error) {
	n, err := parseInts(s, ":", 2)
	if err != nil {
		return Cursor{}, fmt.Errorf("%w: cursor %q", ErrCorrupt, s)
	}
	return Cursor{Seq: n[0], Chunk: n[1]}, nil
}

// SliceID names one generation of one slice. Width and Start are in ms.
type SliceID struct {
	Width int64
	Start int64
	Gen   int
}

// End is the first millisecond after the slice.
func (s SliceID) End() int64 { return s.Start + s.Width }

// String returns width:start:generation.
func (s SliceID) String() string { return string(s.append(nil)) }

func (s SliceID) append(dst []byte) []byte {
	dst = strconv.AppendInt(dst, s.Width, 10)
	dst = append(dst, ':')
	dst = strconv.AppendInt(dst, s.Start, 10)
	dst = append(dst, ':')
	return strconv.AppendInt(dst, int64(s.Gen), 10)
}

// ParseSliceID is the inverse of SliceID.String.
func ParseSliceID(s string) (SliceID, error) {
	n, err := parseInts(s, ":", 3)
	if err != nil {
		return SliceID{}, fmt.Errorf("%w: slice %q", ErrCorrupt, s)
	}
	return SliceID{Width: n[0], Start: n[1], Gen: int(n[2])}, nil
}

func parseInts(s, sep string, want int) ([]int64, error) {
	parts := strings.Split(s, sep)
	if len(parts) != want {
		return nil, strconv.ErrSyntax
	}
	out := make([]int64, want)
	for i, part := range parts {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil {
			return nil, err
		}
		out[i] = n
	}
	return out, nil
}

// formatKey marks the server as holding our state of one format version.
const formatKey = "mr:format"

func (id LaneID) key(name string) string { return "mr:{" + id.String() + "}:" + name }

func (id LaneID) metaKey() string   { return id.key("meta") }
func (id LaneID) ctlKey() string    { return id.key("ctl") }
func (id LaneID) slicesKey() string { return id.key("slices") }
func (id LaneID) foldsKey() string  { return id.key("folds") }
func (id LaneID) tracesKey() string { return id.key("traces") }

// entryPrefix is what every entry key of the lane under this state id begins with.
func (id LaneID) entryPrefix(stateID string) string { return id.key("s:" + stateID + ":") }

func entryKey(prefix string, slice SliceID, bucket int) string {
	buf := make([]byte, 0, len(prefix)+48)
	buf = append(buf, prefix...)
	buf = slice.append(buf)
	buf = append(buf, ':')
	return string(strconv.AppendInt(buf, int64(bucket), 10))
}

// pagePrefix is what every page key of the lane under this state id begins with.
func (id LaneID) pagePrefix(stateID string) string { return id.key("p:" + stateID + ":") }

// pageKey is the hash that holds pages of a slice generation: its own, or one of those that it is spread over.
func pageKey(prefix string, slice SliceID, hash PageHash) string {
	buf := make([]byte, 0, len(prefix)+48)
	buf = append(buf, prefix...)
	buf = slice.append(buf)
	if hash > 0 {
		buf = append(buf, ':')
		buf = strconv.AppendInt(buf, int64(hash), 10)
	}
	return string(buf)
}

func pipelineKey(pipeline, name string) string { return "mr:{" + pipeline + "}:" + name }

func pipelineCtlKey(pipeline string) string      { return pipelineKey(pipeline, "ctl") }
func pipelineRequestsKey(pipeline string) string { return pipelineKey(pipeline, "requests") }

func leaseKey(pipeline string, replica int) string {
	return pipelineKey(pipeline, "replica:"+strconv.Itoa(replica))
}

// presenceKeys are where the processes of a fleet say that they are there, and what they do.
func presenceKeys(fleet string) []string {
	return []string{"mr:presence:{" + fleet + "}:beats", "mr:presence:{" + fleet + "}:bodies"}
}

func (id WindowID) key(name string) string { return "mr:{" + id.String() + "}:" + name }

func (id WindowID) ledgerKey() string        { return id.key("ledger") }
func (id WindowID) viewKey(whole int) string { return id.key("v:" + strconv.Itoa(whole)) }

// draftName names what one attempt at a revision writes before it is published, and nobody else does.
func draftName(v Version, attempt string) string {
	return strconv.Itoa(v.Edition) + ":" + strconv.Itoa(v.Revision) + ":" + attempt
}

// draftsKey lists the drafts that may be there. draftKey has the pages of one, stagedRowsKey its plain rows.
func (id WindowID) draftsKey() string                { return id.key("v:drafts") }
func (id WindowID) draftKey(name string) string      { return id.key("v:" + name) }
func (id WindowID) stagedRowsKey(name string) string { return id.key("rows:" + name) }

// rowsKey is the plain hash of the rows that are shown; other programs read it.
func (id WindowID) rowsKey() string { return id.key("rows") }

// revisionKey is where earlier releases put the content of a revision.
func (id WindowID) revisionKey(rev int) string { return id.key("r:" + strconv.Itoa(rev)) }

func (id ShadowID) key(name string) string { return pipelineKey(id.Namespace(), name) }

func (id ShadowID) guardKey() string   { return id.key("guard") }
func (id ShadowID) planKey() string    { return id.key("plan") }
func (id ShadowID) headersKey() string { return id.key("windows") }

// pagesKey is the key of a window's difference; the window is named by name and start.
func (id ShadowID) pagesKey(window string) string { return id.key("d:" + window) }

// shadowsKey is where a pipeline keeps which shadows it has.
func shadowsKey(pipeline string) string { return pipelineKey(pipeline, "shadows") }
