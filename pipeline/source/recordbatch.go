package source

import (
	"encoding/binary"
	"math/bits"
	"reflect"
	"sync"
	"time"
	"unsafe"

	"github.com/IBM/sarama"
	"github.com/pierrec/lz4/v4"
)

const (
	// batchBytes is the size before compression at which a batch of a partition is full, unless its
	// topic takes less. A larger batch compresses no better, because LZ4 looks back 64 KiB.
	batchBytes = 256 << 10
	// batchRecords is the number of records at which a batch is full.
	batchRecords = 1 << 14
)

// appendRecord adds the encoding of a record in a batch of format 2. delta is its place in the
// batch. A nil key, value or header value is null; the timestamp is the batch's.
func appendRecord(dst []byte, delta int64, key, value []byte, headers []Header) []byte {
	size := 1 + 1 + varintSize(delta) + fieldSize(key) + fieldSize(value) + varintSize(int64(len(headers)))
	for i := range headers {
		size += varintSize(int64(len(headers[i].Key))) + len(headers[i].Key) + fieldSize(headers[i].Value)
	}
	dst = binary.AppendVarint(dst, int64(size))
	dst = append(dst, 0, 0) // no attributes, no time since the batch's
	dst = binary.AppendVarint(dst, delta)
	dst = appendField(dst, key)
	dst = appendField(dst, value)
	dst = binary.AppendVarint(dst, int64(len(headers)))
	for i := range headers {
		dst = binary.AppendVarint(dst, int64(len(headers[i].Key)))
		dst = append(dst, headers[i].Key...)
		dst = appendField(dst, headers[i].Value)
	}
	return dst
}

func appendField(dst, field []byte) []byte {
	if field == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(field))), field...)
}

func fieldSize(field []byte) int {
	if field == nil {
		return 1
	}
	return varintSize(int64(len(field))) + len(field)
}

// varintSize is the number of bytes that binary.AppendVarint adds.
func varintSize(n int64) int {
	return (bits.Len64(uint64(n)<<1^uint64(n>>63)|1) + 6) / 7
}

// openBatch is the batch of one partition that records are added to.
type openBatch struct {
	raw     *[]byte // out of buffers; nil while there is no record
	records int
	began   time.Time // timestamp of all its records
}

func (b *openBatch) add(key, value []byte, headers []Header) (grown int) {
	if b.raw == nil {
		b.raw, b.began = getBuffer(), time.Now()
	}
	before := len(*b.raw)
	*b.raw = appendRecord(*b.raw, int64(b.records), key, value, headers)
	b.records++
	return len(*b.raw) - before
}

func (b *openBatch) size() int {
	if b.raw == nil {
		return 0
	}
	return len(*b.raw)
}

// sealedBatch is a batch as it is sent, and sent again.
type sealedBatch struct {
	packed   *[]byte // out of buffers
	codec    sarama.CompressionCodec
	records  int
	began    time.Time
	sequence int32 // of its first record
}

// seal compresses the batch and begins a new one. Bytes that compression does not make fewer stay
// as they are.
func (b *openBatch) seal(sequence int32) (*sealedBatch, error) {
	s := &sealedBatch{packed: b.raw, records: b.records, began: b.began, sequence: sequence}
	packed := getBuffer()
	if err := compressLZ4(packed, *b.raw); err != nil {
		return nil, err
	}
	spare := packed
	if len(*packed) < len(*b.raw) {
		s.packed, s.codec, spare = packed, sarama.CompressionLZ4, b.raw
	}
	putBuffer(spare)
	*b = openBatch{}
	return s, nil
}

// noRecords stands for the records of a batch that was encoded before: sarama counts them and looks
// at none.
var noRecords [batchRecords]*sarama.Record

// forSarama is the batch as sarama sends it. The buffer must stay until the request was written.
func (s *sealedBatch) forSarama(id producerID) *sarama.RecordBatch {
	batch := &sarama.RecordBatch{
		Version:         2,
		Codec:           s.codec,
		FirstTimestamp:  s.began,
		MaxTimestamp:    s.began,
		LastOffsetDelta: int32(s.records - 1),
		ProducerID:      id.id,
		ProducerEpoch:   id.epoch,
		FirstSequence:   s.sequence,
		IsTransactional: true,
		Records:         noRecords[:s.records],
	}
	*(*[]byte)(unsafe.Add(unsafe.Pointer(batch), encodedRecords)) = *s.packed
	return batch
}

// encodedRecords is where a RecordBatch keeps its records once they are encoded and compressed.
// sarama does not export the field, and without it wants an object for every record, which it
// encodes twice. A test holds that the field is there, and that what is sent is what sarama itself
// would send.
var encodedRecords = func() uintptr {
	field, _ := reflect.TypeFor[sarama.RecordBatch]().FieldByName("compressedRecords")
	return field.Offset
}()

// buffers are reused by all producers of the process. Those that a large record made large are left
// to the garbage collector.
var buffers = sync.Pool{New: func() any {
	b := make([]byte, 0, 4<<10)
	return &b
}}

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if b != nil && cap(*b) <= 2*batchBytes {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// compressor is an LZ4 writer and where it writes to.
type compressor struct {
	lz4 *lz4.Writer
	to  []byte
}

// Write implements io.Writer.
func (c *compressor) Write(p []byte) (int, error) {
	c.to = append(c.to, p...)
	return len(p), nil
}

var compressors = sync.Pool{New: func() any { return &compressor{lz4: lz4.NewWriter(nil)} }}

// compressLZ4 compresses raw into dst, which is empty, as one LZ4 frame. It has no checksum,
// because the batch has one.
func compressLZ4(dst *[]byte, raw []byte) error {
	c := compressors.Get().(*compressor)
	defer compressors.Put(c)
	c.to = *dst
	c.lz4.Reset(c)
	if err := c.lz4.Apply(lz4.BlockSizeOption(lz4.Block64Kb), lz4.ChecksumOption(false)); err != nil {
		return err
	}
	if _, err := c.lz4.Write(raw); err != nil {
		return err
	}
	if err := c.lz4.Close(); err != nil {
		return err
	}
	*dst, c.to = c.to, nil
	return nil
}
