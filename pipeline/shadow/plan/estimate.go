package plan

import "slices"

const (
	// usualRate is how many records a second a shadow reads when nothing bounds it: half of what a lane alone folds, because
	// a shadow shares its machine with the pipeline.
	usualRate = 100_000

	// entryBytes is what a key of a window takes in Redis in one lane, beside its aggregates: key, headers and hash fields.
	entryBytes = 96
	// columnBytes is what an aggregate takes in an entry.
	columnBytes = 24
)

// estimate says what the plan is expected to cost.
func (b *builder) estimate(p *Plan) Figures {
	var f Figures
	reading := int64(0)
	for i := range p.Lanes {
		n := p.Lanes[i].Offsets()
		f.Records += n
		if n > 0 {
			reading++
		}
		if facts := &b.facts[i]; facts.Sampled > 0 {
			f.Bytes += n * facts.SampleBytes / facts.Sampled
		}
	}
	f.Rate = usualRate
	if b.ask.MaxRate > 0 {
		f.Rate = min(f.Rate, float64(b.ask.MaxRate))
	}
	f.Minutes = float64(f.Records) / f.Rate / 60
	f.RedisBytes = b.mostKeys(p) * reading * int64(entryBytes+columnBytes*len(b.ask.Spec.Aggregates))
	return f
}

// mostKeys is how many keys the windows that are open at the same time have at the most. Families share their slices, so
// of each moment the family with the most keys counts.
func (b *builder) mostKeys(p *Plan) int64 {
	type moment struct{ at, keys int64 }
	most := int64(0)
	for _, family := range b.ask.Spec.Windows {
		var moments []moment
		all := int64(0)
		for i := range p.Windows {
			if w := &p.Windows[i]; w.Name == family.Name && w.Base != nil {
				moments = append(moments, moment{w.Start, w.Base.Keys}, moment{w.Deadline, -w.Base.Keys})
				all += w.Base.Keys
			}
		}
		if p.Lateness != AsRead { // nothing is complete before the end
			most = max(most, all)
			continue
		}
		slices.SortFunc(moments, func(x, y moment) int {
			if x.at != y.at {
				return int(min(1, max(-1, x.at-y.at)))
			}
			return int(min(1, max(-1, x.keys-y.keys)))
		})
		open := int64(0)
		for _, m := range moments {
			open += m.keys
			most = max(most, open)
		}
	}
	return most
}
