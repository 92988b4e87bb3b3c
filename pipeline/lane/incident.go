package lane

import (
	"errors"
	"fmt"
	"strings"

	"millrace/pipeline/agg"
	"millrace/pipeline/lane/fold"
	"millrace/pipeline/page"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/window"
)

// position is what is known about a lane before it resumes.
type position struct {
	meta     store.Meta
	loss     error // why the state in Redis cannot be used: a part of it is gone, or cannot be read by this release or under this spec
	hint     source.Committed
	ledger   Published // asked for when neither Redis nor the group knows the lane
	topicID  string
	ends     source.Ends
	topicRef source.TopicPartition
}

// fresh reports whether the lane has never committed.
func (p *position) fresh() bool { return p.meta.Offset < 0 }

// unusable reports whether nothing of the state in Redis may stay when the lane is rewritten.
func (p *position) unusable() bool {
	return p.loss != nil && lossKind(p.loss) != report.IncidentStateLost
}

// sameTopic reports whether two topic ids may stand for one incarnation of a topic: "" is not known.
func sameTopic(a, b string) bool { return a == "" || b == "" || a == b }

// check compares the committed position with the log. A nil result means that reading may go on at start.
func (p *position) check() (start int64, inc *report.Incident) {
	at := p.meta.Offset
	switch {
	case !p.fresh() && !sameTopic(p.meta.TopicID, p.topicID): // also when a part of the state is gone: none of it is of use here
		return 0, &report.Incident{Kind: report.IncidentOtherLog, From: at, To: at, Detail: fmt.Sprintf(
			"topic %s is now %s, the state belongs to %s: it was deleted and made again", p.topicRef.Topic, p.topicID, p.meta.TopicID)}
	case p.loss != nil && lossKind(p.loss) != report.IncidentStateLost:
		return 0, &report.Incident{Kind: lossKind(p.loss), From: -1, To: -1, Detail: withoutLane(p.loss) + lossAdvice[lossKind(p.loss)]}
	case p.loss != nil:
		return 0, &report.Incident{Kind: report.IncidentStateLost, From: p.ends.Start, To: at, Detail: fmt.Sprintf(
			"%s; the server evicts keys (its maxmemory-policy must be noeviction) or somebody deleted them: restore Redis from its backup, or decide",
			withoutLane(p.loss))}
	case p.fresh() && p.hint.Offset >= 0:
		return 0, &report.Incident{Kind: report.IncidentStateLost, From: p.ends.Start, To: p.hint.Offset, Detail: fmt.Sprintf(
			"Redis holds no state of %s, but the consumer group has committed offset %d%s; restore Redis from its backup, or decide",
			p.topicRef, p.hint.Offset, p.wayBack())}
	case p.fresh() && p.ledger.Offset > 0:
		return 0, &report.Incident{Kind: report.IncidentStateLost, From: p.ends.Start, To: p.ledger.Offset, Detail: fmt.Sprintf(
			"Redis holds no state of %s and the consumer group has no offset, but the ledger says that its records up to offset %d were read (%d windows still have a row), "+
				"and the log begins at %d; restore Redis from its backup, or decide", p.topicRef, p.ledger.Offset, p.ledger.Windows, p.ends.Start)}
	case p.fresh():
		return p.ends.Start, nil
	case p.ends.Start > at:
		return 0, &report.Incident{Kind: report.IncidentGap, From: at, To: p.ends.Start, Detail: fmt.Sprintf(
			"the log of %s starts at %d, %d offsets were deleted before they were read", p.topicRef, p.ends.Start, p.ends.Start-at)}
	case p.ends.HighWatermark < at:
		return 0, &report.Incident{Kind: report.IncidentTruncated, From: p.ends.HighWatermark, To: at, Detail: fmt.Sprintf(
			"the log of %s ends at %d, %d offsets that were read are gone", p.topicRef, p.ends.HighWatermark, at-p.ends.HighWatermark)}
	}
	return at, nil
}

// jumpIncident says why a halted lane reads no further, nil when it is not halted.
func jumpIncident(s *fold.State) *report.Incident {
	if !s.Halted() {
		return nil
	}
	return &report.Incident{Kind: report.IncidentJump, From: s.Offset(), To: s.Offset(), Detail: s.HaltDetail()}
}

// readerIncident turns the reader's permanent error into an incident.
func readerIncident(err error, at int64) *report.Incident {
	var oor *source.OutOfRangeError
	if errors.As(err, &oor) {
		if oor.Offset < oor.Ends.Start {
			return &report.Incident{Kind: report.IncidentGap, From: oor.Offset, To: oor.Ends.Start, Detail: err.Error()}
		}
		return &report.Incident{Kind: report.IncidentTruncated, From: oor.Ends.HighWatermark, To: oor.Offset, Detail: err.Error()}
	}
	var undecoded *source.DecodeError
	if errors.As(err, &undecoded) {
		return &report.Incident{Kind: report.IncidentUndecoded, From: undecoded.Offset, To: undecoded.Next, Detail: err.Error()}
	}
	if errors.Is(err, source.ErrOtherTopic) {
		return &report.Incident{Kind: report.IncidentOtherLog, From: at, To: at, Detail: err.Error()}
	}
	return &report.Incident{Kind: report.IncidentReaderLost, From: -1, To: -1, Detail: fmt.Sprint(err)}
}

// lossKind is the kind of incident of an error which says that the stored state cannot be used, "" for any other error.
func lossKind(err error) string {
	var format *store.FormatError
	var state *store.StateIDError
	switch {
	case errors.Is(err, store.ErrPartialLoss):
		return report.IncidentStateLost
	case errors.As(err, &format), errors.Is(err, agg.ErrEntryVersion), errors.Is(err, page.ErrNewer):
		return report.IncidentFormat
	case errors.As(err, &state):
		return report.IncidentOtherSpec
	case errors.Is(err, store.ErrCorrupt), errors.Is(err, agg.ErrEntryCorrupt):
		return report.IncidentCorrupt
	}
	return ""
}

// lossAdvice says what helps besides a decision.
var lossAdvice = map[string]string{
	report.IncidentCorrupt:   "; somebody wrote to Redis, or its memory is bad: restore Redis from its backup and choose retry, or decide",
	report.IncidentFormat:    "; run the release that wrote it, or a newer one, or decide",
	report.IncidentOtherSpec: "; stop the pipeline and start the spec that it ran with, give this one another name, or decide",
}

// lossIncident turns an error that no retry mends into an incident and returns any other as it is.
func lossIncident(err error) error {
	kind := lossKind(err)
	if kind == "" {
		return err
	}
	return &report.Incident{Kind: kind, From: -1, To: -1, Detail: withoutLane(err)}
}

// wayBack says where a rebuild would begin, as far as the group's metadata tell.
func (p *position) wayBack() string {
	r, err := fold.ParseReplay(p.hint.Metadata)
	switch {
	case err != nil:
		return ""
	case r.Basis.Watermark == none:
		return fmt.Sprintf(" (a rebuild begins at offset %d, before any watermark)", r.From)
	}
	return fmt.Sprintf(" (a rebuild begins at offset %d, under the watermark %s)", r.From, window.FormatTime(r.Basis.Watermark))
}

// withoutLane is the text of an error without the lane that it is about: what shows a lane's incident or reason names the
// lane already, without the pipeline before it.
func withoutLane(err error) string {
	text := err.Error()
	for _, before := range []string{"acquire lane ", "restore lane ", "read lane ", "lane "} {
		rest, found := strings.CutPrefix(text, before)
		if name, after, ok := strings.Cut(rest, ": "); found && ok && strings.Contains(name, "/") && !strings.Contains(name, " ") {
			text = after
		}
	}
	return text
}
