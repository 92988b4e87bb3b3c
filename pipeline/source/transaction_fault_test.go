package source

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A connection that is cut before the broker has applied a request, or afterwards so that the
// answer is lost, costs nothing.
func TestAnswersThatAreLost(t *testing.T) {
	opens := []kmsg.Key{kmsg.InitProducerID, kmsg.FindCoordinator}
	for _, key := range append(opens, kmsg.AddPartitionsToTxn, kmsg.Produce, kmsg.EndTxn) {
		for _, applied := range []bool{false, true} {
			if applied && slices.Contains(opens, key) {
				continue // the test has no connection to cut yet
			}
			t.Run(fmt.Sprintf("%s/applied=%v", key.Name(), applied), func(t *testing.T) {
				k := fakeKafka(t)
				topic := k.smallBatches(t, 1)
				first := k.transactional(t, "id")
				require.NoError(t, first.Begin())
				appendAll(t, first, topic, "never")
				_, err := first.Flush(within(t))
				require.NoError(t, err)

				p := k.transactional(t, "id")
				require.NoError(t, p.Begin())
				appendAll(t, p, topic, "before")
				_, err = p.Flush(within(t))
				require.NoError(t, err)
				require.NoError(t, p.Commit())
				var cut func()
				switch key {
				case kmsg.Produce:
					cut = p.onlyBroker(t).link.wires.cut
				case kmsg.AddPartitionsToTxn, kmsg.EndTxn:
					cut = p.coordinator.wires.cut
				}
				lose := func() {
					if applied {
						k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Observe: true, When: func(kmsg.Request) bool {
							cut()
							return true
						}})
						return
					}
					k.fake.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
						return nil, errors.New("cut"), true
					})
				}
				values := long("v", 40)
				if slices.Contains(opens, key) {
					lose()
					p = k.transactional(t, "id")
				}
				require.NoError(t, p.Begin())
				if key == kmsg.Produce || key == kmsg.AddPartitionsToTxn {
					lose()
				}
				appendAll(t, p, topic, values...)
				flushed, err := p.Flush(within(t))
				require.NoError(t, err)
				if key == kmsg.EndTxn {
					lose()
				}
				require.NoError(t, p.Commit())
				got, offsets := k.committed(t, topic, 0)
				require.Equal(t, append([]string{"before"}, values...), got)
				require.Equal(t, offsets[1], flushed[0].First)
			})
		}
	}
}

// onlyBroker is the broker of a producer that has one.
func (p *TransactionalProducer) onlyBroker(t *testing.T) *brokerOutlet {
	t.Helper()
	require.Len(t, p.brokers, 1)
	for _, b := range p.brokers {
		return b
	}
	return nil
}

// A broker that says it may not have appended a batch is sent it again, and then knows where it
// stands.
func TestABatchIsSentAgain(t *testing.T) {
	for _, code := range []sarama.KError{
		sarama.ErrRequestTimedOut, sarama.ErrNotEnoughReplicasAfterAppend,
		sarama.ErrNotEnoughReplicas, sarama.ErrNotLeaderForPartition,
	} {
		t.Run(code.Error(), func(t *testing.T) {
			k := fakeKafka(t)
			topic := k.topic(t, 1)
			p := k.transactional(t, "id")
			k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerrOf(code), Count: 2})
			require.NoError(t, p.Begin())
			appendAll(t, p, topic, "a", "b")
			flushed, err := p.Flush(within(t))
			require.NoError(t, err)
			require.Equal(t, []Appended{{TopicPartition{Topic: topic}, 0, 2}}, flushed)
			require.NoError(t, p.Commit())
			got, _ := k.committed(t, topic, 0)
			require.Equal(t, []string{"a", "b"}, got)
		})
	}
}

// Partitions and coordinators move in the middle of transactions.
func TestLeadersAndCoordinatorsMove(t *testing.T) {
	k := fakeKafka(t, kfake.NumBrokers(3))
	topic := k.smallBatches(t, 2)
	p := k.transactional(t, "id")
	var want [2][]string
	for round := range 12 {
		require.NoError(t, p.Begin())
		for half := range 2 {
			for i, v := range long(fmt.Sprintf("%d.%d.", round, half), 60) {
				if i == 30 {
					require.NoError(t, k.fake.MoveTopicPartition(topic, int32(round%2), int32((round+half)%3)))
				}
				_, err := p.Append(within(t), topic, int32(i%2), nil, []byte(v), nil)
				require.NoError(t, err)
				want[i%2] = append(want[i%2], v)
			}
			if round%3 == half {
				k.fake.RehashCoordinators()
			}
			_, err := p.Flush(within(t))
			require.NoError(t, err)
		}
		require.NoError(t, p.Commit())
	}
	for partition := range int32(2) {
		got, _ := k.committed(t, topic, partition)
		require.Equal(t, want[partition], got)
	}
}

// The end of the transaction before may take its time.
func TestConcurrentTransactionsPass(t *testing.T) {
	k := fakeKafka(t)
	topic := k.topic(t, 1)
	for _, key := range []kmsg.Key{kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.EndTxn} {
		k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: kerrOf(sarama.ErrConcurrentTransactions), Count: 3})
	}
	p := k.transactional(t, "id")
	require.NoError(t, p.Begin())
	appendAll(t, p, topic, "v")
	_, err := p.Flush(within(t))
	require.NoError(t, err)
	require.NoError(t, p.Commit())
	got, _ := k.committed(t, topic, 0)
	require.Equal(t, []string{"v"}, got)
}

// What ends a transaction leaves nothing to readers of committed records, and is told as what it
// is.
func TestWhatEndsATransaction(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(*kafka, string)
		check func(*testing.T, error)
	}{
		{"no offset", func(k *kafka, topic string) {
			k.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				resp := req.ResponseKind().(*kmsg.ProduceResponse)
				p := kmsg.NewProduceResponseTopicPartition()
				p.BaseOffset = -1
				resp.Topics = []kmsg.ProduceResponseTopic{{Topic: topic, Partitions: []kmsg.ProduceResponseTopicPartition{p}}}
				return resp, nil, true
			})
		}, func(t *testing.T, err error) { require.ErrorIs(t, err, ErrNoOffset) }},
		{"no answer for the partition", func(k *kafka, _ string) {
			k.fake.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				return req.ResponseKind(), nil, true
			})
		}, func(t *testing.T, err error) { require.ErrorIs(t, err, ErrNoOffset) }},
		{"duplicate that is long past", func(k *kafka, _ string) {
			k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerrOf(sarama.ErrDuplicateSequenceNumber)})
		}, func(t *testing.T, err error) { require.ErrorIs(t, err, sarama.ErrDuplicateSequenceNumber) }},
		{"gap", func(k *kafka, _ string) {
			k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerrOf(sarama.ErrOutOfOrderSequenceNumber)})
		}, func(t *testing.T, err error) { require.ErrorIs(t, err, sarama.ErrOutOfOrderSequenceNumber) }},
		{"too large", func(k *kafka, _ string) {
			k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerrOf(sarama.ErrMessageSizeTooLarge)})
		}, func(t *testing.T, err error) { require.True(t, TooLarge(err)) }},
		{"may not write", func(k *kafka, _ string) {
			k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerrOf(sarama.ErrTopicAuthorizationFailed)})
		}, func(t *testing.T, err error) { require.True(t, Denied(err)) }},
		{"may not add", func(k *kafka, topic string) {
			k.fake.Fault(kfake.Fault{
				Keys: []kmsg.Key{kmsg.AddPartitionsToTxn}, Topic: topic, Err: kerrOf(sarama.ErrTopicAuthorizationFailed),
			})
		}, func(t *testing.T, err error) { require.True(t, Denied(err)) }},
		{"timed out at the coordinator", func(k *kafka, _ string) {
			k.fake.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerrOf(sarama.ErrInvalidProducerEpoch)})
		}, func(t *testing.T, err error) { require.True(t, fenced(err)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := fakeKafka(t)
			topic := k.topic(t, 1)
			p := k.transactional(t, "id")
			require.NoError(t, p.Begin())
			appendAll(t, p, topic, "first")
			_, err := p.Flush(within(t))
			require.NoError(t, err)
			require.NoError(t, p.Commit())
			if c.name == "may not add" {
				topic = k.topic(t, 1)
			}
			c.fault(k, topic)
			require.NoError(t, p.Begin())
			appendAll(t, p, topic, "second")
			_, err = p.Flush(within(t))
			c.check(t, err)
			require.Error(t, p.Commit())
			require.NoError(t, p.Close())
			if fenced(err) {
				k.transactional(t, "id")
			}
			got, _ := k.committed(t, topic, 0)
			require.NotContains(t, got, "second")
			e := k.ends(t, topic)
			require.Equal(t, e.HighWatermark, e.End, "nothing is open")
		})
	}
}

// kerrOf is a code as the embedded broker wants it.
func kerrOf(code sarama.KError) *kerr.Error {
	var e *kerr.Error
	errors.As(kerr.ErrorForCode(int16(code)), &e)
	return e
}
