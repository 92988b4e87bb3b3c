package journal

import "errors"

var (
	// ErrVersion means a newer version of this package wrote a record. Nothing was changed.
	ErrVersion = errors.New("journal record has a newer format")

	// ErrUnreadable means a record that the log vouches for does not hold a call.
	ErrUnreadable = errors.New("journal record cannot be read")

	// ErrBroken means records of a chain are missing, or do not follow one another: nothing behind can be applied. The lane
	// starts again from what is in Redis.
	ErrBroken = errors.New("journal is broken")

	// ErrLive means a lane of this process is at work on the chain: it drains by itself.
	ErrLive = errors.New("lane is running here")

	// ErrUnknown means the journal holds no such chain.
	ErrUnknown = errors.New("no such chain in the journal")
)
