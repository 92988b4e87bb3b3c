//go:build unix && !linux

package wal

const mapFlags = 0

// Sync flushes data and metadata.
func (f osFile) Sync() error { return f.File.Sync() }

// Allocate leaves it to the zeros written next to take the space.
func (f osFile) Allocate(int64) error { return nil }
