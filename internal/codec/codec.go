package codec

import (
	"crypto/rand"
	"fmt"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/proto"
)

// The metadata of an encrypted payload.
const (
	// Encoding marks a payload of ours. Others in the same namespace, and those written before there were keys, have another.
	Encoding   = "binary/millrace-aes256gcm"
	keyIDField = "millrace-key-id"
)

var _ converter.PayloadCodec = (*Keys)(nil)

// Encode encrypts payloads, their metadata included. One that is encrypted already, because its key was not there when it came in, goes
// out as it is. The nonce is random: a key is good for 2^32 of them.
func (k *Keys) Encode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	id, aead, err := k.encrypting()
	if err != nil {
		return nil, err
	}
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		if out[i] = p; ours(p) {
			continue
		}
		plain, err := proto.Marshal(p)
		if err != nil {
			return nil, fmt.Errorf("encrypt a payload: %w", err)
		}
		sealed := make([]byte, aead.NonceSize(), aead.NonceSize()+len(plain)+aead.Overhead())
		rand.Read(sealed)
		out[i] = &commonpb.Payload{
			Metadata: map[string][]byte{converter.MetadataEncoding: []byte(Encoding), keyIDField: []byte(id)},
			Data:     aead.Seal(sealed, sealed, plain, authenticated(id)),
		}
	}
	return out, nil
}

// Decode decrypts the payloads that are ours and leaves the others as they are.
func (k *Keys) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out := make([]*commonpb.Payload, len(payloads))
	for i, p := range payloads {
		out[i] = p
		if !ours(p) {
			continue
		}
		id := string(p.GetMetadata()[keyIDField])
		aead, err := k.decrypting(id)
		if err != nil {
			return nil, err
		}
		size := aead.NonceSize()
		if len(p.GetData()) < size {
			return nil, fmt.Errorf("a payload that is encrypted with key %q has %d bytes; it is damaged", id, len(p.GetData()))
		}
		plain, err := aead.Open(nil, p.GetData()[:size], p.GetData()[size:], authenticated(id))
		if err != nil {
			return nil, fmt.Errorf("a payload cannot be decrypted with key %q: it is damaged, or the key is another of that name", id)
		}
		out[i] = new(commonpb.Payload)
		if err := proto.Unmarshal(plain, out[i]); err != nil {
			return nil, fmt.Errorf("a payload that was decrypted with key %q cannot be read: %w", id, err)
		}
	}
	return out, nil
}

func ours(p *commonpb.Payload) bool {
	return string(p.GetMetadata()[converter.MetadataEncoding]) == Encoding
}

// authenticated is what a payload says of itself in the clear: changed, it does not decrypt.
func authenticated(id string) []byte { return []byte(Encoding + "\x00" + id) }
