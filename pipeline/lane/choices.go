package lane

import (
	"fmt"

	"millrace/pipeline/lane/fold"
	"millrace/pipeline/report"
	"millrace/pipeline/store"
)

// offer completes an incident with what the operator may do about it; every incident has a way out. at is nil when the reader
// or a commit found the incident; s is nil when there is no state. committed is the lane's offset in Redis.
func (h *Holder) offer(inc *report.Incident, at *position, s *fold.State, committed int64) {
	token := h.token
	if token == "" { // the lane could not be taken: no two incidents may have one id all the same
		token = store.NextToken(h.unowned)
	}
	inc.ID = fmt.Sprintf("%s:%s", inc.Kind, token)
	wait := report.Choice{Name: report.ChoiceWait, Text: "stay parked; the lane's windows stay open", Exact: true}
	retry := report.Choice{
		Name: report.ChoiceRetry, Exact: true,
		Text: "look again at Redis and the log: the lane goes on if the cause is gone, and asks again if it is not",
	}
	switch {
	case inc.Kind == report.IncidentGap && s != nil:
		to := max(inc.To, s.Stamped())
		lost := to - inc.From - s.Unconfirmed()
		inc.Choices = []report.Choice{{
			Name: report.ChoiceSkip, Lost: lost, Exact: true,
			Text: fmt.Sprintf("go on at the log's start: %d records are lost, all below offset %d; they are counted as skipped", lost, to),
		}, wait}
	case inc.Kind == report.IncidentTruncated && s != nil:
		inc.Choices = []report.Choice{offerRebuild(inc, s), wait}
	case inc.Kind == report.IncidentOtherLog:
		inc.Choices = []report.Choice{offerRestart(s), wait}
	case inc.Kind == report.IncidentUndecoded:
		retry.Text = "read the batch again: it can be read once the broker has repaired it or another replica leads; if not, the lane asks again"
		inc.Choices = []report.Choice{{
			Name: report.ChoiceSkip, Lost: inc.To - inc.From,
			Text: fmt.Sprintf("go on behind the batch, at offset %d: its %d offsets are lost; they are counted as skipped", inc.To, inc.To-inc.From),
		}, retry, wait}
	case inc.Kind == report.IncidentJump && s != nil:
		inc.Choices = append(offerJump(), wait)
	case inc.Kind == report.IncidentStateLost && at != nil:
		inc.Choices = []report.Choice{at.offerReturn(), retry, wait}
	case at != nil && at.unusable():
		inc.Choices = []report.Choice{at.offerReplacement(inc.Kind), retry, wait}
	case s != nil && inc.Kind != report.IncidentReaderLost:
		retry.Reread = max(0, s.Offset()-committed)
		retry.Text = "take the lane anew from what Redis holds and read again what was not committed; " +
			"if the cause is still there, the lane asks again"
		inc.Choices = []report.Choice{retry, wait}
	default:
		inc.Choices = []report.Choice{retry, wait}
	}
}

// offerRestart begins the log of a topic that was made again.
func offerRestart(s *fold.State) report.Choice {
	c, dropped := report.Choice{Name: report.ChoiceRestart, Lost: report.UnknownCost}, "the open slices"
	if s != nil {
		c.Lost, c.Exact = s.Folded(), true
		dropped = fmt.Sprintf("%d events of %d open slices", c.Lost, s.Slices())
	}
	c.Text = fmt.Sprintf("start at the new log's start: %s of the old log are dropped; windows that are final stay as published", dropped)
	return c
}

// offerReplacement is the way on for a lane whose state is there and of no use.
func (p *position) offerReplacement(kind string) report.Choice {
	c := p.offerReturn()
	c.Exact = false
	switch {
	case kind == report.IncidentOtherSpec && c.Name == report.ChoiceRebuild:
		c.Text += "; what the spec before had counted into open windows is dropped. A window of this spec that began before that " +
			"offset holds only what came after it: to count from further back, stop, and start with --discard-state --from, or under another name"
	case kind == report.IncidentOtherSpec:
		c.Text += "; what the spec before had counted into open windows is dropped"
	case kind == report.IncidentFormat:
		c.Text += "; what the other release wrote is dropped, so its workers must not run this pipeline any more"
	default:
		c.Text += "; what Redis holds of the lane's open slices is dropped"
	}
	return c
}

// offerRebuild drops what a log that was cut had brought.
func offerRebuild(inc *report.Incident, s *fold.State) report.Choice {
	r := s.Replay()
	c := report.Choice{Name: report.ChoiceRebuild, Lost: inc.To - inc.From, Reread: max(0, inc.From-r.From), Exact: r.Exact() && r.From <= inc.From}
	c.Text = fmt.Sprintf("drop the open slices and read again from offset %d: what the %d records that are gone had added goes as well, but in windows that are final",
		r.From, c.Lost)
	switch {
	case r.From > inc.From:
		c.Reread = inc.From
		c.Text = fmt.Sprintf("no open slice began in what is left of the log: read all of it again, up to %d offsets; what %d records had added goes, but in windows that are final",
			c.Reread, c.Lost)
	case !c.Exact:
		c.Text += "; watermark and counters there are not known exactly"
	}
	return c
}

// offerJump lists what the operator may do about jumps.
func offerJump() []report.Choice {
	return []report.Choice{
		{Name: report.ChoiceAccept, Exact: true, Text: "the time of these events is right: accept the next one, which moves the watermark there"},
		{Name: report.ChoiceRefuse, Exact: true, Text: "the time of these events is wrong: go on refusing them, and ask again after as many in a row"},
	}
}

// offerReturn is the way back for a lane whose state is lost.
func (p *position) offerReturn() report.Choice {
	decided := max(p.hint.Offset, p.meta.Offset, p.ledger.Offset)
	end := min(decided, p.ends.HighWatermark)
	r, err := p.comeBack()
	if err == nil && r.Basis.Known && sameTopic(r.TopicID, p.topicID) {
		c := report.Choice{
			Name: report.ChoiceRebuild, Lost: max(0, p.ends.Start-r.From), Reread: max(0, end-max(r.From, p.ends.Start)),
			Exact: r.Exact() && r.From <= p.ends.HighWatermark && decided <= p.ends.HighWatermark,
		}
		c.Text = fmt.Sprintf("read again from offset %d, where the oldest open slice began; windows that are final stay as published", r.From)
		if p.hint.Offset < 0 {
			c.Text = "read the whole log again, which nothing has been deleted from; windows that are final stay as published"
		}
		if c.Lost > 0 {
			c.Text += fmt.Sprintf("; the log begins at %d, so %d records of open slices are lost: the lane will park once more and ask", p.ends.Start, c.Lost)
		}
		if !c.Exact {
			c.Text += "; what was late then may be on time now, or the other way round"
		}
		return c
	}
	return report.Choice{
		Name: report.ChoiceRestart, Lost: report.UnknownCost, Reread: max(0, end-p.ends.Start),
		Text: fmt.Sprintf("start at the log's start, offset %d, with nothing: open windows lose what stood below it, windows whose finality Redis forgot may be counted twice, late records are reported again",
			p.ends.Start),
	}
}
