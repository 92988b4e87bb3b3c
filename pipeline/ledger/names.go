package ledger

import (
	"strconv"

	"github.com/cespare/xxhash/v2"

	"millrace/pipeline/window"
)

// Topic is the compacted topic that holds a pipeline's ledger, one partition per slot.
func Topic(pipeline string) string { return pipeline + ".ledger" }

// StatesTopic is where a pipeline with roll-ups publishes the mergeable states of its windows.
func StatesTopic(pipeline string) string { return pipeline + ".states" }

// DefaultSlots is how many slots, and so partitions of the ledger topic, a pipeline has.
const DefaultSlots = 8

// TransactionalID is fixed per window slot, never per process: whoever publishes next fences whoever published before.
func TransactionalID(pipeline string, slot int) string {
	return "millrace." + pipeline + ".close." + strconv.Itoa(slot)
}

// WindowID names one window of a pipeline for the ledger's record key, the slot and maps. Every window family has one
// end per start today; a family with several will need the end here and in the key.
type WindowID struct {
	Window string
	Start  int64 // ms
}

// String is the window's name and start, for people.
func (w WindowID) String() string { return w.Window + "/" + window.FormatTime(w.Start) }

// Slot spreads windows over the ledger's partitions. It must never change: the slot is where the ledger is looked for.
func (w WindowID) Slot(slots int) int {
	return int(xxhash.Sum64String(w.Window+"\x00"+strconv.FormatInt(w.Start, 10)) % uint64(slots))
}

// Key is the key of the window's records in the ledger topic.
func (w WindowID) Key() []byte {
	k := append([]byte(`{"window":`), jsonString(w.Window)...)
	k = window.AppendTime(append(k, `,"start":"`...), w.Start)
	return append(k, `"}`...)
}

// FloorRises says for people what raises the floor of windows that lanes fold events into.
const FloorRises = "the closer raises it once a minute, as far as the watermarks of all lanes allow"
