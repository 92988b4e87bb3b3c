//go:build amd64 || arm64

package agg

// prefetch asks the CPU to bring the cache line at p near. It reads nothing that could fault.
//
//go:noescape
func prefetch(p *byte)
