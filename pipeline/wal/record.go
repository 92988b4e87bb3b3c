package wal

import (
	"encoding/binary"
	"fmt"
)

// Place is a record's place in its chain: the successor of (s, p) is (s, p+1) or (s+1, 0).
type Place struct {
	Seq  uint64
	Part uint32
}

// Follows says whether p is a successor of q.
func (p Place) Follows(q Place) bool {
	return p.Seq == q.Seq && p.Part == q.Part+1 || p.Seq == q.Seq+1 && p.Part == 0
}

// Less orders places of one chain.
func (p Place) Less(q Place) bool { return p.Seq < q.Seq || p.Seq == q.Seq && p.Part < q.Part }

func (p Place) String() string { return fmt.Sprintf("%d.%d", p.Seq, p.Part) }

// MarshalText renders seq.part.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// Record is one entry of the log.
type Record struct {
	// Index is the record's number in the log, from 1, rising. The log gives it; it is ignored when appending. Numbers are not
	// gap-free: the log writes entries of its own.
	Index uint64
	// Stream says who the record belongs to, 1 to MaxStream bytes.
	Stream []byte
	// Chain says which run of the stream's records this one continues, up to MaxChain bytes. A stream that starts over under a
	// new owner starts a new chain.
	Chain []byte
	// Place is the record's place in the chain.
	Place Place
	// Pos is the caller's position after the record, such as an input offset; the log only reports the highest.
	Pos int64
	// Data is the caller's.
	Data []byte
}

// recordEnvelope is the fixed part of a record's payload: seq, pos, part, length of stream, length of chain. Stream, chain
// and data follow.
const recordEnvelope = 24

// size returns the bytes of the record's frame.
func (r *Record) size() int64 {
	return align8(frameHeader + recordEnvelope + int64(len(r.Stream)) + int64(len(r.Chain)) + int64(len(r.Data)))
}

func (r *Record) check() error {
	switch {
	case len(r.Stream) == 0:
		return fmt.Errorf("record without a stream: %w", ErrTooLarge)
	case len(r.Stream) > MaxStream:
		return fmt.Errorf("stream of %d bytes, want at most %d: %w", len(r.Stream), MaxStream, ErrTooLarge)
	case len(r.Chain) > MaxChain:
		return fmt.Errorf("chain of %d bytes, want at most %d: %w", len(r.Chain), MaxChain, ErrTooLarge)
	}
	return nil
}

func appendRecord(dst []byte, r *Record, at framePlace) []byte {
	dst, start := beginFrame(dst)
	dst = binary.LittleEndian.AppendUint64(dst, r.Place.Seq)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.Pos))
	dst = binary.LittleEndian.AppendUint32(dst, r.Place.Part)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.Stream)))
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(r.Chain)))
	dst = append(dst, r.Stream...)
	dst = append(dst, r.Chain...)
	dst = append(dst, r.Data...)
	return endFrame(dst, start, frameRecord, at)
}

// decodeRecord reads a record frame's payload; the record aliases it.
func decodeRecord(f *frame) (Record, bool) {
	p := f.payload
	if f.kind != frameRecord || len(p) < recordEnvelope {
		return Record{}, false
	}
	stream, chain := int(binary.LittleEndian.Uint16(p[20:])), int(binary.LittleEndian.Uint16(p[22:]))
	rest := p[recordEnvelope:]
	if stream == 0 || stream > MaxStream || chain > MaxChain || stream+chain > len(rest) {
		return Record{}, false
	}
	return Record{
		Index:  f.index,
		Stream: rest[:stream:stream],
		Chain:  rest[stream : stream+chain : stream+chain],
		Place:  Place{Seq: binary.LittleEndian.Uint64(p), Part: binary.LittleEndian.Uint32(p[16:])},
		Pos:    int64(binary.LittleEndian.Uint64(p[8:])),
		Data:   rest[stream+chain:],
	}, true
}

// A release frame says that a stream's records (all streams' when the stream is empty) below an index are not needed.
func appendRelease(dst []byte, stream string, before uint64, at framePlace) []byte {
	dst, start := beginFrame(dst)
	dst = binary.LittleEndian.AppendUint64(dst, before)
	dst = append(dst, stream...)
	return endFrame(dst, start, frameRelease, at)
}

func releaseSize(stream string) int64 { return align8(frameHeader + 8 + int64(len(stream))) }

func decodeRelease(f *frame) (stream []byte, before uint64, ok bool) {
	if f.kind != frameRelease || len(f.payload) < 8 || len(f.payload) > 8+MaxStream {
		return nil, 0, false
	}
	return f.payload[8:], binary.LittleEndian.Uint64(f.payload), true
}
