package report

import (
	"fmt"
	"strconv"
)

// Account sums up commits. Checksum is of their records, in hex; checksums add up modulo 2^64, so that those of parts
// make that of the whole.
type Account struct {
	Commits  int64  `json:"commits"`
	Calls    int64  `json:"calls"`
	Entries  int64  `json:"entries"`
	Bytes    int64  `json:"bytes"`
	Checksum string `json:"checksum"`
}

// Plus adds accounts. A checksum that cannot be read makes the sum's unreadable too, so that it equals nothing.
func (a Account) Plus(b Account) Account {
	sum := Account{Commits: a.Commits + b.Commits, Calls: a.Calls + b.Calls, Entries: a.Entries + b.Entries, Bytes: a.Bytes + b.Bytes}
	x, errX := parseChecksum(a.Checksum)
	y, errY := parseChecksum(b.Checksum)
	if sum.Checksum = fmt.Sprintf("%016x", x+y); errX != nil || errY != nil {
		sum.Checksum = "unreadable"
	}
	return sum
}

// Same reports whether two accounts are equal. Both checksums must be readable.
func (a Account) Same(b Account) bool {
	x, errX := parseChecksum(a.Checksum)
	y, errY := parseChecksum(b.Checksum)
	return errX == nil && errY == nil && x == y && a.Commits == b.Commits && a.Calls == b.Calls && a.Entries == b.Entries &&
		a.Bytes == b.Bytes
}

func (a Account) String() string {
	return fmt.Sprintf("%d commits, %d entries, %d bytes", a.Commits, a.Entries, a.Bytes)
}

// parseChecksum reads a checksum; that of an account without one is 0.
func parseChecksum(hex string) (uint64, error) {
	if hex == "" {
		return 0, nil
	}
	return strconv.ParseUint(hex, 16, 64)
}

// JournalAccounts are a journal's books since its process began.
type JournalAccounts struct {
	Journal    bool    `json:"journal"` // false: the process has no WAL directory
	Disk       string  `json:"disk,omitempty"`
	Spilled    Account `json:"spilled"`
	Drained    Account `json:"drained"`
	Superseded Account `json:"superseded"`
	Pending    Account `json:"pending"`
}

// ChainRef names a chain of commits in a journal: a lane and the owner token its commits carry.
type ChainRef struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Chain     string `json:"chain"`
}

// WALChain is a chain as it lies on a disk.
type WALChain struct {
	ChainRef
	Segment string `json:"segment"` // in which it begins
	First   string `json:"first"`   // place of its first commit
	Last    string `json:"last"`    // place of its last commit
	From    int64  `json:"from"`    // offset its first commit covers
	To      int64  `json:"to"`      // offset its last commit covers
	Commits int64  `json:"commits"`
	Bytes   int64  `json:"bytes"`
	Gaps    int64  `json:"gaps,omitempty"`
	Live    bool   `json:"live,omitempty"`    // its lane runs in this process and drains it itself
	Settled string `json:"settled,omitempty"` // what has become of it as far as the journal knows: one of Chain...
}

// SettledChain is what became of a chain. A chain that breaks off is drained up to there and superseded from there on.
type SettledChain struct {
	ChainRef
	Outcome     string   `json:"outcome"` // one of Chain...
	Commits     int64    `json:"commits"` // applied, as are the next four
	Calls       int64    `json:"calls"`
	Entries     int64    `json:"entries"`
	Bytes       int64    `json:"bytes"`
	From        int64    `json:"from"`                  // offset that the first commit applied covers, -1 for none
	To          int64    `json:"to"`                    // and the last one
	Superseded  *Account `json:"superseded,omitempty"`  // what will not be applied
	Quarantined int64    `json:"quarantined,omitempty"` // bytes set aside
	Reason      string   `json:"reason,omitempty"`
}

// SupersededCommits is how many commits of the chain will not be applied.
func (c *SettledChain) SupersededCommits() int64 {
	if c.Superseded == nil {
		return 0
	}
	return c.Superseded.Commits
}

// CorruptRange is what cannot be read of a journal.
type CorruptRange struct {
	ChainRef
	Segment string `json:"segment"`
	From    int64  `json:"from"` // bytes in the segment's file
	To      int64  `json:"to"`
	Records int64  `json:"records"` // that are missing at most, -1 when not known
	Detail  string `json:"detail"`
}
