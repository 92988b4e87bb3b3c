package source

import (
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// Every record is taken for about as many records as there are, wherever in a fetch it stands.
func TestStampsAreUnbiased(t *testing.T) {
	for _, n := range []int{1, 7, 64, 65, 1000, 4999} {
		const fetches = 2000
		records, sum := int64(0), int64(0)
		for range fetches {
			s := newStamper(n, nil)
			for i := range n {
				s.pass(int64(i)*10, nil)
			}
			require.LessOrEqual(t, len(s.stamps), 2*stampsPerFetch)
			for _, stamp := range s.stamps {
				records += stamp.Records
				sum += stamp.Records * stamp.At
			}
		}
		require.InEpsilon(t, float64(n), float64(records)/fetches, 0.01, "%d records", n)
		if n > 1 {
			require.InEpsilon(t, 10*float64(n-1)/2, float64(sum)/float64(records), 0.01, "%d records", n)
		}
	}
}

func TestStamps(t *testing.T) {
	header := func(key, value string) []*sarama.RecordHeader {
		return []*sarama.RecordHeader{{Key: []byte("other"), Value: []byte("1")}, {Key: []byte(key), Value: []byte(value)}}
	}
	s := newStamper(10, nil)
	s.pass(1000, nil)
	s.pass(1000, header("mr", "2000"))
	s.pass(1000, header(StampHeader, "2000"))
	s.pass(3000, header(StampHeader, "soon"))
	s.pass(4000, header(StampHeader, "-5"))
	s.pass(-1, nil)
	s.pass(-1, header(StampHeader, "5000"))
	require.Equal(t, []Stamp{{1000, 2}, {2000, 1}, {3000, 1}, {4000, 1}, {5000, 1}}, s.stamps)
}

// A fetch brings the stamps of the records that it brings, and of no others.
func TestDecodeTakesStamps(t *testing.T) {
	pool := newRecordPool(1)
	stamped := batch(0, -1, 0, 1, 2)
	b, err := decode(block(stamped, marker(3, 7, 1)), 1, &pool, wanted{})
	require.NoError(t, err)
	require.Equal(t, []Stamp{{1001, 1}, {1002, 1}}, b.Stamps)
	b.Release()
	require.Nil(t, b.Stamps)
	again, err := decode(block(batch(4, -1, 4)), 4, &pool, wanted{})
	require.NoError(t, err)
	require.Equal(t, []Stamp{{1004, 1}}, again.Stamps)
}

func BenchmarkStamps(b *testing.B) {
	const records = 5000
	into := make([]Stamp, 0, 2*stampsPerFetch)
	b.ReportAllocs()
	for b.Loop() {
		s := newStamper(records, into)
		for i := range records {
			s.pass(int64(i/100), nil)
		}
		into = s.stamps
	}
	b.ReportMetric(float64(b.Elapsed())/float64(time.Nanosecond)/float64(b.N*records), "ns/record")
}
