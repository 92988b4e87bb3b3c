package source

import (
	"context"
	"time"

	"github.com/IBM/sarama"
)

// askCoordinator runs one request against the coordinator of the transactional id until it succeeds
// or fails for good, or the request timeout or ctx ends. It looks for the coordinator again when
// that has moved or cannot be reached. The end of the transaction before is a matter of
// milliseconds, so the first pauses are short.
func (p *TransactionalProducer) askCoordinator(
	ctx context.Context, request func(*sarama.Broker) (sarama.KError, error),
) error {
	pause := newBackoff(2*time.Millisecond, 500*time.Millisecond)
	return p.cluster.againAfter(ctx, pause, func(ctx context.Context) error {
		l, err := p.findCoordinator(ctx)
		if err != nil {
			return err
		}
		var code sarama.KError
		err = l.do(ctx, func(b *sarama.Broker) (err error) {
			code, err = request(b)
			return err
		})
		switch {
		case err != nil:
			p.forgetCoordinator()
			return err
		case code == sarama.ErrNotCoordinatorForConsumer || code == sarama.ErrConsumerCoordinatorNotAvailable:
			p.forgetCoordinator()
			return code
		case code != sarama.ErrNoError:
			return code
		}
		return nil
	})
}

// findCoordinator returns the connection to the coordinator.
func (p *TransactionalProducer) findCoordinator(ctx context.Context) (*link, error) {
	if p.coordinator != nil && !p.coordinator.broken() {
		return p.coordinator, nil
	}
	p.forgetCoordinator()
	var found *sarama.FindCoordinatorResponse
	err := p.cluster.askAny(ctx, "find_coordinator", func(b *sarama.Broker) (err error) {
		found, err = b.FindCoordinator(&sarama.FindCoordinatorRequest{
			Version: 2, CoordinatorKey: p.cfg.ID, CoordinatorType: sarama.CoordinatorTransaction,
		})
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case found.Err != sarama.ErrNoError:
		return nil, found.Err
	case found.Coordinator == nil:
		return nil, sarama.ErrConsumerCoordinatorNotAvailable
	}
	p.coordinator, err = dial(ctx, p.conf, found.Coordinator.Addr())
	if err != nil {
		p.coordinator = nil
	}
	return p.coordinator, err
}

func (p *TransactionalProducer) forgetCoordinator() {
	if p.coordinator != nil {
		p.coordinator.close()
		p.coordinator = nil
	}
}

// initProducerID fences the producer before. Asking again after an answer was lost only fences one
// more.
func (p *TransactionalProducer) initProducerID(ctx context.Context) error {
	return p.askCoordinator(ctx, func(b *sarama.Broker) (sarama.KError, error) {
		resp, err := b.InitProducerID(&sarama.InitProducerIDRequest{
			Version: 4, TransactionalID: &p.cfg.ID, TransactionTimeout: p.cfg.Timeout, ProducerID: -1, ProducerEpoch: -1,
		})
		if err != nil {
			return 0, err
		}
		p.producerID = producerID{resp.ProducerID, resp.ProducerEpoch}
		return resp.Err, nil
	})
}

// addPartitions adds the partitions in use to the transaction that are not yet part of it. While
// the transaction before is being ended, the coordinator wants to be asked again.
func (p *TransactionalProducer) addPartitions(ctx context.Context) error {
	if len(p.unadded) == 0 {
		return nil
	}
	partitions := make(map[string][]int32)
	for _, part := range p.unadded {
		partitions[part.Topic] = append(partitions[part.Topic], part.Partition)
	}
	p.added = true // an error does not say that it was not
	began := time.Now()
	err := p.askCoordinator(ctx, func(b *sarama.Broker) (sarama.KError, error) {
		resp, err := b.AddPartitionsToTxn(&sarama.AddPartitionsToTxnRequest{
			Version: 3, TransactionalID: p.cfg.ID, ProducerID: p.producerID.id, ProducerEpoch: p.producerID.epoch,
			TopicPartitions: partitions,
		})
		if err != nil {
			return 0, err
		}
		return addError(resp), nil
	})
	p.cluster.cfg.CountCall("add_partitions", began, err)
	p.unadded = p.unadded[:0]
	return err
}

// addError is why partitions were not added. A partition that was not tried because of another says
// nothing.
func addError(resp *sarama.AddPartitionsToTxnResponse) sarama.KError {
	code := sarama.ErrNoError
	for _, partitions := range resp.Errors {
		for _, p := range partitions {
			if p.Err != sarama.ErrNoError && (code == sarama.ErrNoError || code == sarama.ErrOperationNotAttempted) {
				code = p.Err
			}
		}
	}
	return code
}

// end commits or aborts the transaction. Repeating it after an answer was lost is safe: the
// coordinator knows what it was asked.
func (p *TransactionalProducer) end(ctx context.Context, operation string, commit bool) error {
	if !p.added {
		return nil
	}
	began := time.Now()
	err := p.askCoordinator(ctx, func(b *sarama.Broker) (sarama.KError, error) {
		resp, err := b.EndTxn(&sarama.EndTxnRequest{
			Version: 3, TransactionalID: p.cfg.ID, ProducerID: p.producerID.id, ProducerEpoch: p.producerID.epoch,
			TransactionResult: commit,
		})
		if err != nil {
			return 0, err
		}
		return resp.Err, nil
	})
	p.cluster.cfg.CountCall(operation, began, err)
	return err
}
