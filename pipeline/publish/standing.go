package publish

import (
	"fmt"

	"millrace/pipeline/source"
)

// standing says where the records of a transaction stand: of each partition, in the order in which
// they were appended.
type standing map[source.TopicPartition][]source.Appended

func newStanding(appended []source.Appended) standing {
	s := make(standing)
	for _, a := range appended {
		s[a.TopicPartition] = append(s[a.TopicPartition], a)
	}
	return s
}

// take passes the offsets of the next n records of a partition to fn, as spans.
func (s standing) take(tp source.TopicPartition, n int64, fn func(first, last int64)) error {
	for n > 0 {
		of := s[tp]
		if len(of) == 0 {
			return fmt.Errorf("%d records for %s: %w", n, tp, source.ErrNoOffset)
		}
		taken := min(n, int64(of[0].Records))
		fn(of[0].First, of[0].First+taken-1)
		n -= taken
		of[0].First += taken
		if of[0].Records -= int(taken); of[0].Records == 0 {
			s[tp] = of[1:]
		}
	}
	return nil
}
