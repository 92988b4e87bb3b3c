package result

import (
	"time"

	"millrace/pipeline/survey"
)

// hold is what rounds remember of the pipeline's watermark: where it stands, which lane holds it there, and since when.
type hold struct {
	watermark int64
	lane      string
	since     time.Time
}

// waiting describes what the watermark waits for, and since when as far as this closer knows. c.turn is held.
func (c *Closer) waiting(v *view) survey.Waiting {
	w := v.Waiting()
	if h := &c.held; h.since.IsZero() || h.watermark != w.Watermark || h.lane != w.Lane {
		*h = hold{watermark: w.Watermark, lane: w.Lane, since: c.cfg.Now()}
	}
	w.Since = c.held.since.UnixMilli()
	return w
}
