package source

import "github.com/IBM/sarama"

// anyPartition leaves the choice of the partition to the key.
const anyPartition = -1

// partitioner sends a message to the partition it names, and one that names none where its key belongs.
type partitioner struct{ byKey sarama.Partitioner }

func newPartitioner(topic string) sarama.Partitioner {
	return &partitioner{byKey: sarama.NewHashPartitioner(topic)}
}

func (p *partitioner) Partition(msg *sarama.ProducerMessage, partitions int32) (int32, error) {
	if msg.Partition != anyPartition {
		return msg.Partition, nil
	}
	return p.byKey.Partition(msg, partitions)
}

// RequiresConsistency makes sarama count all partitions, also those without a leader at the moment.
func (p *partitioner) RequiresConsistency() bool { return true }
