package source

import (
	"context"
	"errors"
	"time"

	"github.com/IBM/sarama"
)

const (
	// extentTime bounds the search for the end of a batch that cannot be decoded.
	extentTime = 30 * time.Second
	// extentTries is how often one offset is asked for until a whole batch arrives: each try asks for twice as much.
	extentTries = 32
)

// undecoded is the reader's end at a batch that cannot be decoded. nil means that the broker did not say where the log can be
// read on: it is tried again.
func (f *fetcher) undecoded(ctx context.Context, cause error) error {
	next, err := f.readableAgain(ctx)
	if err != nil {
		return nil //nolint:nilerr // the batch is as bad at the next try
	}
	return &DecodeError{TopicPartition: f.tp, Offset: f.pos, Next: next, Err: cause}
}

// readableAgain finds the first offset behind the bad batch at the position from which the log can be read on. A broker
// answers with the batch that an offset is in, so every offset of a bad batch is as bad: the end is looked for in steps that
// double, and then by halves. Of several bad batches in a row, and short good ones between them, it may find the last one's end.
func (f *fetcher) readableAgain(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, extentTime)
	defer cancel()
	ends, err := f.cfg.Cluster.Ends(ctx, f.tp)
	if err != nil {
		return 0, err
	}
	at := f.pos
	defer func() { f.pos, f.size = at, 1 }()
	bad, good := at, max(at+1, ends[f.tp].HighWatermark) // where nothing is, nothing is bad
	for step := int64(1); bad+step < good; step *= 2 {
		readable, err := f.readableAt(ctx, bad+step)
		if err != nil {
			return 0, err
		}
		if readable {
			good = bad + step
			break
		}
		bad += step
	}
	for good-bad > 1 {
		middle := bad + (good-bad)/2
		readable, err := f.readableAt(ctx, middle)
		if err != nil {
			return 0, err
		}
		if readable {
			good = middle
		} else {
			bad = middle
		}
	}
	return good, nil
}

// readableAt reports whether the batch that holds an offset can be decoded.
func (f *fetcher) readableAt(ctx context.Context, offset int64) (bool, error) {
	f.pos, f.size = offset, 1
	for range extentTries {
		batch, err := f.fetch(ctx)
		var bad *undecodable
		switch {
		case errors.As(err, &bad), errors.Is(err, ErrLegacyFormat):
			return false, nil
		case errors.Is(err, sarama.ErrOffsetOutOfRange):
			return true, nil
		case err != nil:
			return false, err
		case batch.Next > offset:
			batch.Release()
			return true, nil
		case offset >= f.Status().LastStable: // nothing is delivered there yet
			return true, nil
		}
	}
	return false, errors.New("the broker delivers no whole batch")
}
