package shadow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"millrace/pipeline/ledger"
	"millrace/pipeline/shadow/plan"
	"millrace/pipeline/source"
	"millrace/pipeline/store"
	"millrace/pipeline/verify"
	"millrace/pipeline/window"
)

// Cluster answers what the brokers know now; *source.Cluster does.
type Cluster interface {
	ledger.Log
	Topic(ctx context.Context, name string) (source.Topic, error)
	Ends(ctx context.Context, tps ...source.TopicPartition) (map[source.TopicPartition]source.Ends, error)
	// OffsetsAt answers the offset of the first record of each partition whose timestamp is not before at (ms), and its last
	// stable offset where there is none.
	OffsetsAt(ctx context.Context, at int64, tps ...source.TopicPartition) (map[source.TopicPartition]int64, error)
	TopicSettings(ctx context.Context, topic string, names ...string) (map[string]string, error)
}

// Metas reads the metas of the pipeline's own lanes; *store.Store does.
type Metas interface {
	ReadMeta(ctx context.Context, id store.LaneID) (m store.Meta, found bool, err error)
}

// PrepareConfig says what is to be counted again, and where to look.
type PrepareConfig struct {
	Ask     plan.Ask
	Cluster Cluster
	Metas   Metas
	Late    verify.LateReader // needed for plan.FromLate only
}

// Prepare makes the plan of a shadow. It changes nothing. What cannot be counted is a *plan.RefusedError when nothing else is
// left, and stands in the plan otherwise.
func Prepare(ctx context.Context, cfg PrepareConfig) (*plan.Plan, error) {
	if err := CheckID(cfg.Ask.ID); err != nil {
		return nil, err
	}
	book, err := readBook(ctx, cfg.Cluster, cfg.Ask.Pipeline)
	if err != nil {
		return nil, err
	}
	selection, err := plan.Select(cfg.Ask, book)
	if err != nil {
		return nil, err
	}
	g := &gathering{PrepareConfig: cfg}
	if err := g.gather(ctx); err != nil {
		return nil, err
	}
	return selection.Build(g.facts, func(at int64) ([]int64, error) { return g.offsetsAt(ctx, at) })
}

// readBook reads the ledger of a pipeline.
func readBook(ctx context.Context, log ledger.Log, pipeline string) (*plan.Book, error) {
	partitions, err := log.Partitions(ctx, ledger.Topic(pipeline))
	if err != nil {
		return nil, fmt.Errorf("ledger of %s: %w", pipeline, err)
	}
	b := &plan.Book{
		Edition: ledger.Edition, Slots: len(partitions), Rows: make(map[ledger.WindowID]*ledger.Row),
		Tombstones: make(map[ledger.WindowID]bool), Floors: make(map[plan.FloorID]*ledger.Floor),
	}
	err = ledger.Read(ctx, log, pipeline, func(rec ledger.Record) error {
		switch {
		case rec.Row != nil:
			b.Rows[rec.Row.ID()] = rec.Row
			delete(b.Tombstones, rec.Row.ID())
		case rec.Tombstone != nil:
			delete(b.Rows, *rec.Tombstone)
			b.Tombstones[*rec.Tombstone] = true
		case rec.Floor != nil:
			b.Edition = max(b.Edition, rec.Floor.Ended+1)
			id := plan.FloorID{Slot: int(rec.Partition), Family: rec.Floor.Window}
			if old := b.Floors[id]; old == nil || old.Edition <= rec.Floor.Edition {
				b.Floors[id] = rec.Floor
			}
		case rec.Ended != nil:
			b.Edition = max(b.Edition, rec.Ended.Edition+1)
		}
		return nil
	})
	return b, err
}

// gathering collects what is known of the source partitions.
type gathering struct {
	PrepareConfig
	facts []plan.Facts
	tps   []source.TopicPartition // of facts
}

// gather asks for the ends of the logs before anything else: what arrives while the rest is asked belongs to no plan.
func (g *gathering) gather(ctx context.Context) error {
	for _, name := range slices.Sorted(slices.Values(g.Ask.Live.Source.Topics)) {
		topic, err := g.Cluster.Topic(ctx, name)
		if err != nil {
			return fmt.Errorf("source topic %s: %w", name, err)
		}
		if err := g.checkKept(ctx, name); err != nil {
			return err
		}
		for _, p := range slices.Sorted(slices.Values(topic.Partitions)) {
			g.facts = append(g.facts, plan.Facts{Topic: name, Partition: p, TopicID: topic.ID, FirstTime: window.NoTime})
			g.tps = append(g.tps, source.TopicPartition{Topic: name, Partition: p})
		}
	}
	ends, err := g.Cluster.Ends(ctx, g.tps...)
	if err != nil {
		return fmt.Errorf("ends of the source topics: %w", err)
	}
	for i, tp := range g.tps {
		g.facts[i].LogStart, g.facts[i].LogEnd = ends[tp].Start, ends[tp].End
	}
	for _, step := range []func(context.Context) error{g.readMetas, g.sample, g.readLate} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// checkKept refuses topics that do not keep every record. What may not be looked at is the operator's to know.
func (g *gathering) checkKept(ctx context.Context, topic string) error {
	const policy = "cleanup.policy"
	settings, err := g.Cluster.TopicSettings(ctx, topic, policy)
	if source.Denied(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("settings of topic %s: %w", topic, err)
	}
	if strings.Contains(settings[policy], "compact") {
		return &plan.RefusedError{Refusals: []plan.Refusal{{
			Reason: plan.ReasonCompacted,
			Detail: fmt.Sprintf("topic %s has %s=%s: it keeps the last record of each key, so what a window held cannot be read again",
				topic, policy, settings[policy]),
		}}}
	}
	return nil
}

// readMetas reads what the live lanes remember. One that cannot be read is left out: rows may say enough.
func (g *gathering) readMetas(ctx context.Context) error {
	for i := range g.facts {
		f := &g.facts[i]
		meta, found, err := g.Metas.ReadMeta(ctx, store.LaneID{Pipeline: g.Ask.Pipeline, Topic: f.Topic, Partition: f.Partition})
		if err != nil && !store.Unreadable(err) {
			return err
		}
		if found && err == nil {
			f.Meta = &meta
		}
	}
	return nil
}

// sampleRecords is how many records of each lane are looked at to guess how long they are.
const sampleRecords = 256

var errSampled = errors.New("enough records were looked at")

// sample looks at the first records of the range, and at when the log begins.
func (g *gathering) sample(ctx context.Context) error {
	offsets, err := g.offsetsAt(ctx, g.Ask.From-g.Ask.Spec.Event.MaxFuture.Millis())
	if err != nil {
		return err
	}
	for i, tp := range g.tps {
		f := &g.facts[i]
		look := func(from, n int64, fn func(source.Record)) error {
			if from >= f.LogEnd {
				return nil
			}
			_, err := g.Cluster.ReadCommitted(ctx, tp, from, func(r source.Record) error {
				if n--; n < 0 {
					return errSampled
				}
				fn(r)
				return nil
			})
			if errors.Is(err, errSampled) {
				return nil
			}
			return err
		}
		err := look(offsets[i], sampleRecords, func(r source.Record) {
			f.Sampled++
			f.SampleBytes += int64(len(r.Key) + len(r.Value))
		})
		if err == nil && f.LogStart > 0 {
			err = look(f.LogStart, 1, func(r source.Record) { f.FirstTime = r.Timestamp })
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", tp, err)
		}
	}
	return nil
}

// offsetsAt answers in the order of the facts, and nothing above the ends asked first.
func (g *gathering) offsetsAt(ctx context.Context, at int64) ([]int64, error) {
	found, err := g.Cluster.OffsetsAt(ctx, at, g.tps...)
	if err != nil {
		return nil, err
	}
	offsets := make([]int64, len(g.tps))
	for i, tp := range g.tps {
		offsets[i] = min(found[tp], g.facts[i].LogEnd)
	}
	return offsets, nil
}

// readLate reads which records the lanes have called late.
func (g *gathering) readLate(ctx context.Context) error {
	if g.Ask.Lateness != plan.FromLate {
		return nil
	}
	byLane := make(map[source.TopicPartition]*plan.Facts, len(g.facts))
	for i, tp := range g.tps {
		byLane[tp] = &g.facts[i]
	}
	return g.Late(ctx, func(r verify.LateRecord) error {
		f := byLane[source.TopicPartition{Topic: r.Topic, Partition: r.Partition}]
		if f == nil {
			return nil
		}
		late := plan.LateRecord{Offset: r.Offset}
		for _, name := range strings.Split(r.Windows, ",") {
			id, ok := parseWindowName(name)
			if late.More = late.More || !ok; ok {
				late.Windows = append(late.Windows, id)
			}
		}
		f.Late = append(f.Late, late)
		return nil
	})
}

// parseWindowName reads a name of the mr-windows header. What cannot be read stands for windows that are not named.
func parseWindowName(text string) (ledger.WindowID, bool) {
	name, at, ok := strings.Cut(text, "@")
	if !ok {
		return ledger.WindowID{}, false
	}
	start, err := window.ParseTime(at)
	return ledger.WindowID{Window: name, Start: start}, err == nil
}
