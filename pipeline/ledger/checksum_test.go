package ledger

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// A checksum is the same however its rows come together: row by row, by digests, from parts, or
// with rows that go again.
func TestChecksumOfParts(t *testing.T) {
	var whole, digests, low, high Checksum
	var h Hasher
	for i := range 200 {
		row := Content{Key: fmt.Appendf(nil, "{%d}", i), Values: fmt.Appendf(nil, "{%d}", i*i), Overflow: i%3 == 0}
		whole.AddContent(row)
		digests.AddDigest(h.Digest(row))
		part := &low
		if i >= 90 {
			part = &high
		}
		part.AddContent(row)
	}
	whole.AddContent(Content{Key: []byte("k"), Deleted: true})
	require.Equal(t, "0ead8271", whole.String()[:8], "the sum is part of the stored format")
	equal := func(c Checksum) {
		t.Helper()
		require.Equal(t, whole.String(), c.String())
		require.Equal(t, whole.Sum(), c.Sum())
		require.Equal(t, int64(200), c.Rows())
	}
	equal(digests)
	sum := NewChecksum(low.Rows(), low.Sum())
	sum.AddChecksum(high)
	equal(sum)

	gone := Content{Key: []byte("gone"), Values: []byte("{}")}
	sum.AddContent(gone)
	require.NotEqual(t, whole.String(), sum.String())
	sum.SubDigest(h.Digest(gone))
	equal(sum)
	require.Zero(t, testing.AllocsPerRun(20, func() { h.Digest(gone) }))
}
