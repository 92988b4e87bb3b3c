package spec

import (
	"cmp"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"millrace/pipeline/calendar"
)

// MaxFileBytes is the longest spec file in bytes. It bounds what a hostile workflow input can cost.
const MaxFileBytes = 1 << 20

// Parse reads one pipeline from YAML or JSON (which is YAML), applies defaults and validates. The filename is only for
// the texts of errors. Everything wrong is reported at once: the error is of type Errors, in the order of the file.
func Parse(filename string, data []byte) (*Spec, error) {
	r := &reader{file: filename, places: make(map[string]*yaml.Node)}
	if len(data) > MaxFileBytes {
		r.fail(nil, "", "", "is longer than 1 MiB", "a pipeline as YAML or JSON")
		return nil, r.sorted()
	}
	root, ok := r.document(data)
	if !ok {
		return nil, r.sorted()
	}
	r.root = root
	s := defaults()
	if r.spec(root, s); resolve(root).Kind != yaml.MappingNode {
		return nil, r.sorted()
	}
	s.complete()
	check(s, r.report)
	if err := r.sorted(); err != nil {
		return nil, err
	}
	return s, nil
}

// report places what validation found, unless the same field, or one above or below it, is known to be wrong already.
func (r *reader) report(path, value, problem, want string) {
	for i, named := range r.aggregatePaths {
		if rest, ok := strings.CutPrefix(path, aggregatePath(i)); ok {
			path = named + rest
			break
		}
	}
	for _, e := range r.errs {
		if within(e.Field, path) || within(path, e.Field) {
			return
		}
	}
	n, found := r.places[path]
	if found && value != "" {
		value = cmp.Or(text(resolve(n)), value) // as it was written, not as it was read
	} else if value != "" {
		problem, want = "is the default, and "+problem, path+" given: "+want
	}
	for at := path; !found && at != ""; n, found = r.places[at] {
		at = at[:max(0, strings.LastIndexAny(at, ".["))]
	}
	if n == nil {
		n = r.root
	}
	if problem == missing {
		if _, given := r.places[path]; given {
			problem = "is empty"
		}
	}
	r.fail(n, path, value, problem, want)
}

// within reports whether the field at path lies in the one at outer, or is it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && outer != "" && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

func (r *reader) spec(n *yaml.Node, s *Spec) {
	const topic = "a topic such as {kafka: {topic: orders.windows}}"
	r.mapping(n, "", "the fields of a pipeline: name, source, event, aggregates, windows, results",
		field{"name", r.text(&s.Name, wantName)},
		field{"source", func(n *yaml.Node, path string) {
			r.mapping(n, path, "e.g. {topics: [orders], format: json}",
				field{"topics", r.texts(&s.Source.Topics, "a list such as [orders]", wantTopic)},
				field{"format", r.text(&s.Source.Format, "json")})
		}},
		field{"event", func(n *yaml.Node, path string) { r.event(n, path, &s.Event) }},
		field{"where", r.text(&s.Where, wantWhere)},
		field{"aggregates", func(n *yaml.Node, path string) { r.aggregates(n, path, s) }},
		field{"windows", func(n *yaml.Node, path string) {
			r.list(n, path, "a list such as [{name: hourly, size: 1h}]", func(n *yaml.Node, path string) {
				var w Window
				r.mapping(n, path, "e.g. {name: hourly, size: 1h}",
					field{"name", r.text(&w.Name, wantName)},
					field{"size", r.positive(&w.Size)},
					field{"slide", r.positive(&w.Slide)},
					field{"offset", r.duration(&w.Offset)})
				s.Windows = append(s.Windows, w)
			})
		}},
		field{"watermark", func(n *yaml.Node, path string) {
			r.mapping(n, path, "e.g. {out_of_orderness: 10s, idle_timeout: 30s}",
				field{"out_of_orderness", r.duration(&s.Watermark.OutOfOrderness)},
				field{"idle_timeout", r.duration(&s.Watermark.IdleTimeout)})
		}},
		field{"allowed_lateness", r.duration(&s.AllowedLateness)},
		field{"results", func(n *yaml.Node, path string) {
			r.mapping(n, path, topic, r.kafkaSink(&s.Results.Sink), field{"redis", func(n *yaml.Node, path string) {
				s.Results.Redis = &RedisResults{Layout: LayoutPages}
				r.mapping(n, path, "e.g. {layout: rows}", field{"layout", r.text(&s.Results.Redis.Layout, wantLayout)})
			}})
		}},
		field{"late", r.sink(&s.Late, topic)},
		field{"dead_letter", r.sink(&s.DeadLetter, topic)},
		field{"retention", func(n *yaml.Node, path string) {
			r.mapping(n, path, "e.g. {results: 7d, ledger: 90d}",
				field{"results", r.duration(&s.Retention.Results)},
				field{"ledger", r.duration(&s.Retention.Ledger)})
		}},
		field{"rollups", func(n *yaml.Node, path string) { r.rollups(n, path, s) }},
		field{"archive", func(n *yaml.Node, path string) {
			s.Archive = &Archive{}
			r.mapping(n, path, "e.g. {dir: /var/lib/millrace/archive}", field{"dir", r.text(&s.Archive.Dir, wantDir)})
		}},
		field{"lane", func(n *yaml.Node, path string) { r.lane(n, path, &s.Lane) }},
		field{"replicas", r.integer(&s.Replicas, "a whole number from 1 to 256")},
	)
}

func (r *reader) event(n *yaml.Node, path string, e *Event) {
	r.mapping(n, path, "e.g. {key: [customer], time: {field: at, unit: ms}}",
		field{"key", r.texts(&e.Key, "a list of fields such as [customer]", wantPath)},
		field{"time", func(n *yaml.Node, path string) {
			r.mapping(n, path, "e.g. {field: at, unit: ms}",
				field{"field", r.text(&e.Time.Field, wantPath)},
				field{"unit", r.text(&e.Time.Unit, wantUnit)})
		}},
		field{"max_future", r.duration(&e.MaxFuture)},
		field{"max_past", r.positive(&e.MaxPast)},
		field{"max_jump", r.positive(&e.MaxJump)},
		field{"max_jump_streak", func(n *yaml.Node, path string) {
			known := len(r.errs)
			if r.integer(&e.MaxJumpStreak, wantStreak)(n, path); e.MaxJumpStreak == 0 && len(r.errs) == known {
				r.fail(n, path, text(resolve(n)), "is out of range", wantStreak)
			}
		}},
		field{"max_key_bytes", r.bytes(func(v int64) { e.MaxKeyBytes = clamp(v) })},
		field{"max_value_bytes", func(n *yaml.Node, path string) {
			r.bytes(func(v int64) {
				if v == 0 { // which in a Spec means that the field is not there
					r.fail(n, path, text(resolve(n)), "is out of range", "at least 1, or no such field for as much as fits")
				}
				e.MaxValueBytes = clamp(v)
			})(n, path)
		}},
	)
}

// aggregates reads a mapping from name to aggregate, as people write it, or a list with names, as the canonical JSON
// has it. Both keep their order.
func (r *reader) aggregates(n *yaml.Node, path string, s *Spec) {
	const want = "e.g. {total: {func: sum, field: amount, type: int}}"
	one := func(n *yaml.Node, path string, a *Aggregate, more ...field) {
		r.mapping(n, path, want, append(more,
			field{"func", r.text(&a.Func, wantFunc())},
			field{"field", r.text(&a.Field, wantPath)},
			field{"type", r.text(&a.Type, "int or float")})...)
		s.Aggregates = append(s.Aggregates, *a)
		r.aggregatePaths = append(r.aggregatePaths, path)
	}
	n = resolve(n)
	if n.Kind == yaml.SequenceNode {
		r.list(n, path, want, func(n *yaml.Node, path string) {
			var a Aggregate
			one(n, path, &a, field{"name", r.text(&a.Name, wantAggregate)})
		})
		return
	}
	if len(n.Content) > 2*maxAggregates {
		r.fail(n, path, "", fmt.Sprintf("has %d aggregates", len(n.Content)/2), wantCount(maxAggregates))
		return
	}
	var fields []field
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := resolve(n.Content[i])
			r.text(new(string), wantAggregate)(key, path)
			fields = append(fields, field{key.Value, func(n *yaml.Node, path string) {
				r.places[path+".name"] = key
				one(n, path, &Aggregate{Name: key.Value})
			}})
		}
	}
	r.mapping(n, path, want, fields...)
}

func (r *reader) rollups(n *yaml.Node, path string, s *Spec) {
	const want = "e.g. {name: daily, from: hourly, calendar: day, timezone: Europe/Berlin}"
	r.list(n, path, "a list such as [{name: daily, from: hourly, calendar: day}]", func(n *yaml.Node, path string) {
		var u Rollup
		r.mapping(n, path, want,
			field{"name", r.text(&u.Name, wantName)},
			field{"from", r.text(&u.From, "the name of a window or roll-up")},
			field{"calendar", r.text(&u.Calendar, calendar.UnitNames())},
			field{"timezone", r.text(&u.Timezone, wantZone)},
			field{"retention", r.kept(&u.Retention)})
		s.Rollups = append(s.Rollups, u)
	})
}

// kept reads how long something is kept, whose zero, in a Spec, means that the field is not there.
func (r *reader) kept(dst *Duration) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		known := len(r.errs)
		if r.duration(dst)(n, path); *dst == 0 && len(r.errs) == known {
			checkKept(path, *dst, func(path, value, problem, want string) { r.fail(n, path, value, problem, want) })
		}
	}
}

func (r *reader) sink(sink *Sink, want string) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		r.mapping(n, path, want, r.kafkaSink(sink))
	}
}

func (r *reader) kafkaSink(sink *Sink) field {
	return field{"kafka", func(n *yaml.Node, path string) {
		sink.Kafka = &KafkaSink{}
		r.mapping(n, path, "e.g. {topic: orders.windows}", field{"topic", r.text(&sink.Kafka.Topic, wantTopic)})
	}}
}

func (r *reader) lane(n *yaml.Node, path string, l *Lane) {
	const number = "a whole number"
	r.mapping(n, path, "e.g. {commit_interval: 1s, memory_limit: 512MiB}",
		field{"commit_interval", r.duration(&l.CommitInterval)},
		field{"chunk_fields", r.integer(&l.ChunkFields, number)},
		field{"commit_queue", r.integer(&l.CommitQueue, "1 or 2")},
		field{"memory_limit", r.bytes(func(v int64) { l.MemoryLimit = v })},
		field{"buckets", r.integer(&l.Buckets, wantBuckets)},
		field{"fetch_batches", r.integer(&l.FetchBatches, number)},
		field{"fetch_bytes", r.bytes(func(v int64) { l.FetchBytes = clamp(v) })},
		field{"overflow", r.text(&l.Overflow, wantOverflow)},
	)
}

// clamp keeps a byte count within int32; validation then refuses it as too large.
func clamp(v int64) int { return int(min(v, 1<<31-1)) }
