package event

import (
	"errors"
	"fmt"

	"millrace/pipeline/spec"
	"millrace/pipeline/where"
)

// Decoder turns records into events. It is compiled for one spec and serves one goroutine. It learns how a producer
// writes its records, which changes its speed and nothing else.
type Decoder struct {
	root *node
	scan scanner

	timePath string
	timeLeaf int
	time     timeReader

	keyPaths []string
	keyLeafs []int
	keys     keyReader
	keyLimit int
	key      []byte

	slots  []slotReader
	values []Value
	text   []byte // unescaped strings of this event's values

	filter  *filter // nil without a where
	refused map[refusal]*Invalid
}

// NewDecoder compiles a decoder for a valid spec.
func NewDecoder(s *spec.Spec) (*Decoder, error) {
	if len(s.Event.Key) == 0 || s.Event.Time.Field == "" {
		return nil, errors.New("event: the spec names no key or no time field")
	}
	d := &Decoder{
		timePath: s.Event.Time.Field,
		time:     newTimeReader(s.Event.Time.Unit),
		keyPaths: s.Event.Key,
		keyLimit: s.Event.MaxKeyBytes,
		refused:  make(map[refusal]*Invalid),
	}
	t := newTrie()
	timeNode := t.add(split(d.timePath)...)
	var keyNodes, slotNodes, whereNodes []*node
	for _, path := range d.keyPaths {
		keyNodes = append(keyNodes, t.add(split(path)...))
	}
	for _, path := range Slots(s) {
		slotNodes = append(slotNodes, t.add(split(path)...))
		d.slots = append(d.slots, slotReader{path: path})
	}
	for i := range s.Aggregates {
		if slot := SlotOf(s, i); slot >= 0 {
			d.slots[slot].need |= demandOf(&s.Aggregates[i])
			if s.Aggregates[i].KeepsText() {
				d.slots[slot].limit = s.Event.MaxValueBytes
			}
		}
	}
	if s.Where != "" {
		expression, err := where.Compile(s.Where)
		if err != nil {
			return nil, fmt.Errorf("event: where: %w", err)
		}
		d.filter = &filter{where: expression, env: make(map[string]any, len(expression.Fields))}
		for _, name := range expression.Fields {
			whereNodes = append(whereNodes, t.add(name))
		}
	}
	t.number()
	d.root = t.root
	d.scan.tokens = make([]token, t.leaves)
	d.timeLeaf = timeNode.leaf
	for _, n := range keyNodes {
		d.keyLeafs = append(d.keyLeafs, n.leaf)
	}
	for i, n := range slotNodes {
		d.slots[i].leaf = n.leaf
	}
	for _, n := range whereNodes {
		d.filter.leaves = append(d.filter.leaves, n.leaf)
	}
	d.values = make([]Value, len(d.slots))
	return d, nil
}

// Decode fills ev from the value of a record; nil is a tombstone. The bytes must not change as long as the event is in
// use. The error is always an *Invalid: the record as it is can never become an event. What is invalid is refused
// before the filter is asked, and ev then holds nothing of use.
func (d *Decoder) Decode(value []byte, ev *Event) error {
	if value == nil {
		return d.refuseKnown(Tombstone, "", 0)
	}
	object, ok := d.scan.document(value, d.root)
	if !ok {
		return &Invalid{Reason: d.scan.reason, Offset: d.scan.offset}
	}
	if !object {
		return &Invalid{Reason: NotObject, Got: shown(value), Want: wantObject}
	}
	tokens := d.scan.tokens

	var reason Reason
	if ev.Time, reason = d.eventTime(&tokens[d.timeLeaf], value); reason != "" {
		return d.refuseValue(reason, d.timePath, &tokens[d.timeLeaf], value, d.time.wantOf())
	}
	d.key = d.key[:0]
	for i, leaf := range d.keyLeafs {
		if d.key, reason = d.keys.append(d.key, &tokens[leaf], value); reason != "" {
			return d.refuseValue(reason, d.keyPaths[i], &tokens[leaf], value, d.keys.wantOf(reason))
		}
	}
	if len(d.key) > d.keyLimit {
		return d.refuseKnown(KeyTooLarge, d.keyPaths[0], d.keyLimit)
	}
	d.text = d.text[:0]
	for i := range d.slots {
		slot := &d.slots[i]
		if d.text, reason = slot.read(&d.values[i], &tokens[slot.leaf], value, d.text); reason != "" {
			if reason == ValueTooLarge {
				return d.refuseKnown(reason, slot.path, slot.limit)
			}
			return d.refuseValue(reason, slot.path, &tokens[slot.leaf], value, slot.wantOf(reason))
		}
	}
	ev.Key, ev.Values, ev.Filtered = d.key, d.values, false
	if d.filter != nil {
		keep, err := d.filter.keep(tokens, value)
		if err != nil {
			return &Invalid{Reason: FilterError, Err: err}
		}
		ev.Filtered = !keep
	}
	return nil
}

func (d *Decoder) eventTime(t *token, data []byte) (ns int64, reason Reason) {
	var ok bool
	switch t.kind {
	case absent, null:
		return 0, Missing
	case smallInt, number:
		if d.time.text {
			return 0, WrongType
		}
		ns, ok = d.time.number(t, data)
	case plain, escaped:
		if !d.time.text {
			return 0, WrongType
		}
		text := data[t.start:t.end]
		if t.kind == escaped {
			d.text = unescape(d.text[:0], text)
			text = d.text
		}
		ns, ok = parseRFC3339(text)
	default:
		return 0, WrongType
	}
	if !ok {
		return 0, BadTime
	}
	return ns, ""
}

// refuseKnown returns the one Invalid of that reason and field, so that a stream of bad records costs no memory. The limit
// is the one that belongs to the reason and the field.
func (d *Decoder) refuseKnown(reason Reason, field string, limit int) error {
	return d.known(Invalid{Reason: reason, Field: field, Limit: limit})
}

// refuseValue says what stands at a token and what would be valid.
func (d *Decoder) refuseValue(reason Reason, field string, t *token, data []byte, want string) error {
	if t.kind == absent {
		return d.known(Invalid{Reason: reason, Field: field, Want: want})
	}
	return &Invalid{Reason: reason, Field: field, Got: t.written(data), Want: want}
}

func (d *Decoder) known(invalid Invalid) error {
	what := refusal{invalid.Reason, invalid.Field}
	known := d.refused[what]
	if known == nil {
		first := invalid // a copy, so that the argument does not escape
		known = &first
		d.refused[what] = known
	}
	return known
}

type refusal struct {
	reason Reason
	field  string
}
