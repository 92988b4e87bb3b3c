package deliver

import (
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/source"
)

// SideSender publishes late and dead-letter records; it returns when all are acknowledged.
type SideSender interface {
	Send(ctx context.Context, records []source.SideRecord) error
}

// PublishSides sends the side records of a commit that were not sent yet and returns when all are acknowledged. It comes
// before the commit's calls are applied, and may be called again after an error.
func PublishSides(ctx context.Context, c *fold.Commit, side SideSender) error {
	if len(c.Side) == 0 {
		return nil
	}
	if err := sendFitting(ctx, side, c.Side); err != nil {
		return err
	}
	c.SidesSent()
	return nil
}

// Fitting returns a sender that publishes records as a lane does: one that its topic would never take is cut until it fits.
func Fitting(side SideSender) SideSender { return fitting{side} }

type fitting struct{ SideSender }

func (f fitting) Send(ctx context.Context, records []source.SideRecord) error {
	return sendFitting(ctx, f.SideSender, records)
}

// HeaderCut stands on a side record that its topic would not take whole: the lengths of key and value as they were.
const HeaderCut = "mr-cut-from"

// leastSide and leastHeader are the lengths in bytes below which neither key nor value, and no header, is cut.
const leastSide, leastHeader = 256, 64

// sendFitting publishes records. One that its topic will never take would stop the lane for ever, so such records are
// found by halving and then cut until they fit; their headers say where the original is.
func sendFitting(ctx context.Context, side SideSender, records []source.SideRecord) error {
	err := side.Send(ctx, records)
	switch {
	case !errors.Is(err, source.ErrRecordTooLarge):
		return err
	case len(records) > 1:
		half := len(records) / 2
		if err := sendFitting(ctx, side, records[:half]); err != nil {
			return err
		}
		return sendFitting(ctx, side, records[half:])
	case cutRecord(&records[0]):
		return sendFitting(ctx, side, records)
	}
	return err
}

// cutRecord halves the longer of key and value and, when both are short, the longest header: a detail, or the names of
// windows. It reports whether there was enough to cut.
func cutRecord(r *source.SideRecord) bool {
	if max(len(r.Key), len(r.Value)) < leastSide {
		return cutHeader(r)
	}
	if n := len(r.Headers); n == 0 || r.Headers[n-1].Key != HeaderCut {
		r.Headers = append(r.Headers, source.Header{Key: HeaderCut, Value: fmt.Appendf(nil, "%d,%d", len(r.Key), len(r.Value))})
	}
	if len(r.Key) > len(r.Value) {
		r.Key = r.Key[:len(r.Key)/2]
	} else {
		r.Value = r.Value[:len(r.Value)/2]
	}
	return true
}

func cutHeader(r *source.SideRecord) bool {
	longest := 0
	for i := range r.Headers {
		if len(r.Headers[i].Value) > len(r.Headers[longest].Value) {
			longest = i
		}
	}
	if len(r.Headers) == 0 || len(r.Headers[longest].Value) < leastHeader {
		return false
	}
	h := &r.Headers[longest]
	h.Value = append(h.Value[:len(h.Value)/2:len(h.Value)/2], "..."...)
	return true
}
