package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"millrace/pipeline/event"
	"millrace/pipeline/ledger"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/pipeline/window"
)

// Overtaken is a window that is final without events of its own that stand in the log: the watermark had passed its deadline before
// they were read.
type Overtaken struct {
	Window  string
	Start   int64 // ms
	End     int64 // ms
	Events  int64 // that its final revision counts; 0 without one
	Missing int64 // that it does not count, at the least
}

// Survey is what FindOvertaken read.
type Survey struct {
	Windows []Overtaken      // by start, then by window
	Final   int              // windows that are final by a row
	Records int64            // read
	Cut     bool             // there were more than the limit
	Floors  map[string]int64 // up to where every window is final, ms, by family; families without a floor are left out
}

// FindOvertaken reads the source topics of a pipeline from some offsets on, at most limit records, and says which windows are final
// without them. It changes nothing and needs no lane.
func FindOvertaken(ctx context.Context, log ledger.Log, s *spec.Spec, from map[source.TopicPartition]int64, limit int64) (*Survey, error) {
	decoder, err := event.NewDecoder(s)
	if err != nil {
		return nil, err
	}
	plan, err := window.NewPlan(s)
	if err != nil {
		return nil, err
	}
	o := &overtaking{spec: s, plan: plan, rows: make(map[ledger.WindowID]ledger.Row), floors: make(map[slotFamily]int64),
		from: from, found: make(map[window.Ref]map[source.TopicPartition]*logged), survey: &Survey{Floors: make(map[string]int64)}}
	if err := o.readLedger(ctx, log); err != nil {
		return nil, err
	}
	bounds := event.BoundsOf(&s.Event)
	var ev event.Event
	for _, tp := range slices.SortedFunc(maps.Keys(from), comparePartitions) {
		_, err := log.ReadCommitted(ctx, tp, from[tp], func(r source.Record) error {
			if o.survey.Records == limit {
				return errLimit
			}
			o.survey.Records++
			if decoder.Decode(r.Value, &ev) != nil || ev.Filtered {
				return nil
			}
			ms := window.Millis(ev.Time)
			if !bounds.Ahead(ev.Time, ms, r.Timestamp) && !bounds.Past(ms, r.Timestamp) {
				o.count(tp, r.Offset, ms)
			}
			return nil
		})
		if errors.Is(err, errLimit) {
			o.survey.Cut = true
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read %s from offset %d: %w", tp, from[tp], err)
		}
	}
	return o.conclude(), nil
}

var errLimit = errors.New("as many records as wanted")

func comparePartitions(a, b source.TopicPartition) int {
	return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

type slotFamily struct {
	slot   int32
	family string
}

// logged is what the log holds of one window in one lane.
type logged struct {
	events int64
	after  int64 // of these, behind the last event that the window's final revision counts
}

// overtaking counts events by the windows that are final without them.
type overtaking struct {
	from   map[source.TopicPartition]int64
	found  map[window.Ref]map[source.TopicPartition]*logged
	spec   *spec.Spec
	plan   *window.Plan
	slots  int
	rows   map[ledger.WindowID]ledger.Row // the latest of each window, of the edition that has not ended
	floors map[slotFamily]int64
	survey *Survey
}

func (o *overtaking) readLedger(ctx context.Context, log ledger.Log) error {
	partitions, err := log.Partitions(ctx, ledger.Topic(o.spec.Name))
	if err != nil {
		return err
	}
	o.slots = len(partitions)
	err = ledger.Read(ctx, log, o.spec.Name, func(rec ledger.Record) error {
		switch {
		case rec.Row != nil:
			o.rows[rec.Row.ID()] = *rec.Row
		case rec.Tombstone != nil:
			delete(o.rows, *rec.Tombstone)
		case rec.Floor != nil:
			o.floors[slotFamily{rec.Partition, rec.Floor.Window}] = rec.Floor.End
		case rec.Ended != nil: // nothing before it binds anybody
			maps.DeleteFunc(o.floors, func(f slotFamily, _ int64) bool { return f.slot == rec.Partition })
		}
		return nil
	})
	for _, row := range o.rows {
		if row.Final {
			o.survey.Final++
		}
	}
	for f, end := range o.floors {
		if low, ok := o.survey.Floors[f.family]; !ok || end < low {
			o.survey.Floors[f.family] = end
		}
	}
	return err
}

// count takes an event that the log holds, if its window is final.
func (o *overtaking) count(tp source.TopicPartition, offset, ms int64) {
	for _, ref := range o.plan.WindowsOf(o.plan.SliceStart(ms)) {
		row, known := o.rows[o.id(ref)]
		if known && !row.Final || !known && !o.floored(ref) {
			continue
		}
		if o.found[ref] == nil {
			o.found[ref] = make(map[source.TopicPartition]*logged)
		}
		l := o.found[ref][tp]
		if l == nil {
			l = new(logged)
			o.found[ref][tp] = l
		}
		l.events++
		if cover, ok := row.Cover(tp.Topic, tp.Partition); !ok || offset > cover.LastOffset {
			l.after++
		}
	}
}

// floored reports whether a window is final without a row.
func (o *overtaking) floored(ref window.Ref) bool {
	id := o.id(ref)
	floor, ok := o.floors[slotFamily{int32(id.Slot(o.slots)), id.Window}]
	return ok && o.plan.End(ref) <= floor
}

// missing is how many of the events that the log holds of a lane a final row does not count. Where the row counts events from before
// the place that was read from on, only those behind its last one are sure.
func (o *overtaking) missing(row *ledger.Row, tp source.TopicPartition, l *logged) int64 {
	cover, ok := row.Cover(tp.Topic, tp.Partition)
	switch {
	case !ok || cover.Folded == 0:
		return l.events
	case cover.FirstOffset >= o.from[tp]:
		return l.events - cover.Folded
	}
	return l.after
}

func (o *overtaking) id(ref window.Ref) ledger.WindowID {
	return ledger.WindowID{Window: o.spec.Windows[ref.Window].Name, Start: ref.Start}
}

func (o *overtaking) conclude() *Survey {
	for ref, lanes := range o.found {
		id := o.id(ref)
		row, missing := o.rows[id], int64(0)
		for tp, l := range lanes {
			missing += max(0, o.missing(&row, tp, l))
		}
		if missing > 0 {
			o.survey.Windows = append(o.survey.Windows, Overtaken{
				Window: id.Window, Start: ref.Start, End: o.plan.End(ref), Events: row.Events, Missing: missing,
			})
		}
	}
	slices.SortFunc(o.survey.Windows, func(a, b Overtaken) int {
		return cmp.Or(cmp.Compare(a.Start, b.Start), strings.Compare(a.Window, b.Window))
	})
	return o.survey
}
