package store

import "fmt"

// Balance ties a lane's counters to its slices: Counters.Folded is what the registered slices have folded, and Dropped.
// A script that drops a slice moves Dropped by what the slice had folded, in the same call. So the balance holds after
// every call of a commit, and what somebody took out of Redis shows.
type Balance struct {
	// Known is false for a meta that an earlier version wrote last. Its lane's balance begins with the next commit: what
	// the slices there do not hold counts as dropped.
	Known   bool
	Dropped int64 // events folded into slices that were dropped or purged since
}

// CheckBalance reports with ErrPartialLoss that slices are missing from Redis, or that their folds are. slices are those
// that were read together with m. A lane that has committed nothing, or whose balance is not known, has nothing to check.
func (m *Meta) CheckBalance(id LaneID, slices []SliceStat) error {
	if m.Offset == NotStarted || !m.Balance.Known {
		return nil
	}
	open := OpenFolded(slices)
	if m.Balance.Dropped >= 0 && open+m.Balance.Dropped == m.Counters.Folded {
		return nil
	}
	return fmt.Errorf("lane %s: %w: it folded %d events, the %d slices in Redis hold %d and dropped ones held %d",
		id, ErrPartialLoss, m.Counters.Folded, len(slices), open, m.Balance.Dropped)
}

// OpenFolded is how many events slices have folded.
func OpenFolded(slices []SliceStat) int64 {
	n := int64(0)
	for i := range slices {
		n += slices[i].Folded
	}
	return n
}
