package result

// SlotOf is a window's slot.
func SlotOf(name string, start int64, slots int) int { return windowID{name, start}.slot(slots) }
