//go:build !amd64 && !arm64

package agg

// prefetch does nothing on this architecture: it is only ever a hint.
func prefetch(*byte) {}
