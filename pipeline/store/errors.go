package store

import (
	"errors"
	"fmt"
)

var (
	// ErrFenced means another token owns the lane. Nothing was changed, and nothing this owner sends ever will be.
	ErrFenced = errors.New("lane is owned by another token")

	// ErrLostWrites means Redis stands behind what it had acknowledged to this owner. Take a new token and re-seed.
	ErrLostWrites = errors.New("redis lost acknowledged writes of the lane")

	// ErrNoMeta means the lane's meta is gone (or was never there). A live lane takes a new token and re-seeds.
	ErrNoMeta = errors.New("lane has no meta in redis")

	// ErrPartialLoss means that a part of a lane's state is gone from Redis while its meta is there: somebody deleted keys,
	// or the server evicted them. From Apply it comes together with ErrLostWrites: a live lane writes its state again.
	ErrPartialLoss = errors.New("part of the lane's state is gone from redis")

	// ErrNotSealed means a drop was asked before the lane's committed watermark or seal had passed the deadline.
	ErrNotSealed = errors.New("slice is not sealed yet")

	// ErrOwnerChanged means a lane was acquired by somebody else since its owner was read. Read it again.
	ErrOwnerChanged = errors.New("owner of the lane changed")

	// ErrLaneMoved means the lane's owner changed or its state went backwards between two pages of one read.
	ErrLaneMoved = errors.New("lane changed while it was read")

	// ErrSuperseded means that the revision or a later version is shown already, or that the content
	// it was to be added to is another one's.
	ErrSuperseded = errors.New("this revision, or a later one, is shown, or its content is another one's")

	// ErrDraftGone means that Redis does not have what the same attempt has written before. It wraps
	// ErrSuperseded: the draft is not shown either way. Another attempt may be.
	ErrDraftGone = fmt.Errorf("the draft of a revision is gone from redis: %w", ErrSuperseded)

	// ErrRevisionBack means a lower revision than the current one was to be made current.
	ErrRevisionBack = errors.New("current revision only moves upwards")

	// ErrNoRows means a revision is shown without the plain hash of its rows, which nothing led to.
	ErrNoRows = errors.New("nothing leads to the plain rows of the revision")

	// ErrNoRevision means Redis has no content of a revision, not the whole of it, or not any more.
	ErrNoRevision = errors.New("revision is not in redis")

	// ErrCorrupt means a stored value cannot be read although its format version is ours.
	ErrCorrupt = errors.New("corrupt value in redis")

	// ErrExpires means somebody gave a key of a lane a time to live. Make it persistent again (PERSIST).
	ErrExpires = errors.New("key of a lane would expire")

	// ErrEviction means the server may evict keys. Set maxmemory-policy to noeviction.
	ErrEviction = errors.New("redis may evict keys")

	// ErrServerVersion means the server is older than the oldest one supported.
	ErrServerVersion = errors.New("redis is too old")
)

// FormatError says that Redis holds state of another format version.
type FormatError struct {
	Key         string
	Found, Want int
}

func (e *FormatError) Error() string {
	return fmt.Sprintf("%s: format %d found, this version of millrace reads and writes format %d; use the matching version, or another redis",
		e.Key, e.Found, e.Want)
}

// StateIDError says that a lane's state was written under another state id, that is, by a spec whose state differs.
type StateIDError struct {
	Lane        LaneID
	Found, Want string
}

// Unreadable reports whether err says that the stored state is there and cannot be read by this release. Asking again does not help.
func Unreadable(err error) bool {
	var format *FormatError
	return errors.As(err, &format) || errors.Is(err, ErrCorrupt)
}

func (e *StateIDError) Error() string {
	return fmt.Sprintf("lane %s: state id %s found, the spec has %s: key, time, where, aggregates, windows or lateness changed",
		e.Lane, e.Found, e.Want)
}
