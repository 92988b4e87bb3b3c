package deliver

import (
	"errors"

	"millrace/pipeline/journal"
	"millrace/pipeline/store"
)

// JournalUnreadable reports whether err means that the rest of a chain in the journal cannot be read. The lane then starts
// again from what Redis has, which reads from Kafka what the journal lost.
func JournalUnreadable(err error) bool {
	return errors.Is(err, journal.ErrBroken) || errors.Is(err, journal.ErrUnreadable) || errors.Is(err, journal.ErrVersion)
}

// BreaksChain reports whether err breaks a chain of commits: no retry mends it.
func BreaksChain(err error) bool { return store.IsFinal(err) || JournalUnreadable(err) }
