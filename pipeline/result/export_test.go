package result

import "millrace/pipeline/ledger"

// SlotOf is a window's slot.
func SlotOf(name string, start int64, slots int) int {
	return ledger.WindowID{Window: name, Start: start}.Slot(slots)
}
