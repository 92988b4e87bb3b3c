package source

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/IBM/sarama"

	"millrace/pipeline/measure"
)

// do makes one request on a connection and counts it under the operation.
func (c *Cluster) do(ctx context.Context, l *link, operation string, request func(*sarama.Broker) error) error {
	began := time.Now()
	err := l.do(ctx, request)
	c.cfg.CountCall(operation, began, err)
	return err
}

// CountCall counts a call to Kafka that began at a time and ended now with err. One that its caller has given up says nothing
// about Kafka, and is not counted.
func (c *Config) CountCall(operation string, began time.Time, err error) {
	if !errors.Is(err, context.Canceled) {
		c.Calls.Done(operation, outcomeOf(err), time.Since(began))
	}
}

// outcomeOf says what became of a call to Kafka.
func outcomeOf(err error) measure.Outcome {
	if err == nil { // what follows moves its variables to the heap
		return measure.OK
	}
	var code sarama.KError
	var timeout net.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, sarama.ErrRequestTimedOut),
		errors.As(err, &timeout) && timeout.Timeout():
		return measure.Timeout
	case errors.As(err, &code), errors.Is(err, ErrRecordTooLarge):
		return measure.Refused
	}
	return measure.Failed
}

// countFetch counts a fetch by what it brought: the broker holds one that finds nothing for up to fetchWait, which says nothing
// about how fast it is.
func (f *fetcher) countFetch(began time.Time, resp *sarama.FetchResponse, err error) {
	operation := "fetch_empty"
	if err == nil {
		block := resp.GetBlock(f.tp.Topic, f.tp.Partition)
		switch {
		case resp.ErrorCode != 0:
			err = sarama.KError(resp.ErrorCode)
		case block != nil && block.Err != sarama.ErrNoError:
			err = block.Err
		case block != nil && len(block.RecordsSet) > 0:
			operation = "fetch"
		}
	}
	if err != nil {
		operation = "fetch"
	}
	f.cfg.Cluster.cfg.CountCall(operation, began, err)
}
