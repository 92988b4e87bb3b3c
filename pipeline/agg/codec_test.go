package agg

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// Numbers of all lengths are read as binary.Uvarint reads them, wherever they stand and whatever follows, and so is what
// is no number.
func TestLongUvarintIsUvarint(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for range 200_000 {
		buf := make([]byte, r.IntN(20))
		for i := range buf {
			buf[i] = byte(r.Uint32())
			if r.IntN(3) > 0 {
				buf[i] |= 0x80
			}
		}
		at := r.IntN(len(buf) + 1)
		buf = append(buf[:at:at], append(binary.AppendUvarint(nil, r.Uint64()>>r.IntN(64)), buf[at:]...)...)
		at = r.IntN(len(buf) + 1)
		v, n := binary.Uvarint(buf[at:])
		gotV, gotN := longUvarint(buf, at)
		require.Equal(t, []any{v, n}, []any{gotV, gotN}, "%x at %d", buf, at)
	}
}
