package app

import (
	"math"

	"millrace/pipeline/lane"
	"millrace/pipeline/report"
	"millrace/pipeline/stage"
)

// leastTime is what a heartbeat leaves out, in seconds of a minute.
const leastTime = 0.05

// addTimes adds the last minute of a lane to what there is of others.
func addTimes(to **report.LaneTimes, t *lane.Times) {
	if *to == nil {
		*to = &report.LaneTimes{Lane: report.Times{}, Reader: report.Times{}, Committer: report.Times{}}
	}
	(*to).Span += rounded(t.Lane.Span.Seconds())
	addMinute((*to).Lane, &t.Lane)
	addMinute((*to).Reader, &t.Reader)
	addMinute((*to).Committer, &t.Committer)
}

func addMinute(to report.Times, a *stage.Account) {
	for name, s := range a.Minute.Seconds() {
		if s >= leastTime {
			to[name] = rounded(to[name] + s)
		}
	}
}

// rounded keeps a heartbeat short: to hundredths of a second.
func rounded(s float64) float64 { return math.Round(s*100) / 100 }

func closingTimes(a stage.Account) *report.ClosingTimes {
	if a.Span == 0 {
		return nil
	}
	out := &report.ClosingTimes{Span: rounded(a.Span.Seconds()), Closer: report.Times{}}
	addMinute(out.Closer, &a)
	return out
}
