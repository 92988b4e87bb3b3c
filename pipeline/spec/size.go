package spec

import "encoding/json"

// Bounds on the size of what a pipeline publishes, in bytes.
const (
	// DefaultRecordBytes is what the record of a result row may take by default: a topic whose max.message.bytes nobody
	// has set takes it (Kafka's default is 1048588).
	DefaultRecordBytes = 1 << 20

	// MaxRecordBytes is the largest result record that a spec may ask for. Clients send requests of up to 100 MiB.
	MaxRecordBytes = 64 << 20

	// rowOverhead bounds what a result record has besides its key and values: the framing of record and batch, a header
	// with the window's name, and in the row the names of pipeline and window, two times, the revision and the flags.
	rowOverhead = 1 << 10

	// numberBytes bounds a published number, true, false or null.
	numberBytes = 48

	// integerBytes bounds an integer within float64 that is published with all its digits: 309 of them and a sign.
	integerBytes = 310

	// stateBytes bounds what an aggregate remembers besides a text: an exact float sum has up to 2,200 bits, an integer with all
	// its digits 309 bytes.
	stateBytes = 400

	// escapedByte is how many bytes one byte of a text may take in JSON: \u0000.
	escapedByte = 6
)

// KeepsText reports whether the aggregate publishes a text of the event, or an integer of any length, as it is.
func (a *Aggregate) KeepsText() bool {
	f, _ := functionNamed(a.Func)
	return f.Texts && (a.Type == "any" || a.Type == "string")
}

// keepsDigits reports whether the aggregate publishes an integer beyond int64 with all its digits, but no text.
func (a *Aggregate) keepsDigits() bool {
	f, _ := functionNamed(a.Func)
	return f.Texts && a.Type == "float"
}

// Notes says what a valid spec asks for in vain.
func (s *Spec) Notes() []string {
	if s.Event.MaxValueBytes > 0 && s.texts() == 0 {
		return []string{"event.max_value_bytes " + bytesText(int64(s.Event.MaxValueBytes)) +
			" has no effect: no aggregate publishes a text, as first and last do"}
	}
	return nil
}

// RecordBytes bounds the bytes of any record with a result row: key, value, headers and the framing of a batch of its own.
// max_value_bytes does not bound numbers within int64 and fractions, so one below numberBytes leaves their room.
func (s *Spec) RecordBytes() int {
	return s.fixedBytes() + s.texts()*max(s.Event.MaxValueBytes, numberBytes)
}

// StateBytes bounds the bytes of any record of the states topic. What an aggregate remembers takes no more than a published
// value would, or a float sum, whose integer may span the range of float64; all of it is written in base64.
func (s *Spec) StateBytes() int {
	state := s.texts() * max(s.Event.MaxValueBytes, numberBytes)
	for range s.Aggregates {
		state += stateBytes
	}
	return s.fixedBytes() + (state+2)/3*4
}

// fixedBytes is RecordBytes with every text left out.
func (s *Spec) fixedBytes() int {
	key := 2 + escapedByte*s.Event.MaxKeyBytes
	for _, name := range s.Event.Key {
		key += jsonBytes(name) + 2
	}
	n := rowOverhead + 2*key // the key of the row is the key of its record too
	for i := range s.Aggregates {
		a := &s.Aggregates[i]
		n += jsonBytes(a.Name) + 2
		switch {
		case a.KeepsText(): // max_value_bytes bounds its value
		case a.keepsDigits():
			n += integerBytes
		default:
			n += numberBytes
		}
	}
	return n
}

// texts counts the aggregates whose values max_value_bytes bounds.
func (s *Spec) texts() int {
	n := 0
	for i := range s.Aggregates {
		if s.Aggregates[i].KeepsText() {
			n++
		}
	}
	return n
}

// defaultValueBytes is the greatest max_value_bytes, in KiB where there is that much, with which every row fits
// DefaultRecordBytes; 0 when nothing publishes a text. It depends on nothing that the state id does not depend on.
func (s *Spec) defaultValueBytes() int { return s.valueBytes(DefaultRecordBytes) }

// valueBytes is the greatest max_value_bytes with which every row fits a record of the given bytes.
func (s *Spec) valueBytes(record int) int {
	texts := s.texts()
	if texts == 0 {
		return 0
	}
	n := max(1, (record-s.fixedBytes())/texts)
	if n > 1<<10 {
		n &^= 1<<10 - 1
	}
	return n
}

// jsonBytes is the length of a text in JSON with its quotes, or a little more.
func jsonBytes(text string) int {
	b, err := json.Marshal(text)
	if err != nil { // a string always encodes
		return 2 + escapedByte*len(text)
	}
	return len(b)
}
