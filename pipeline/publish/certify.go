package publish

import (
	"context"
	"encoding/json"
	"fmt"

	"millrace/pipeline/ledger"
)

// certificate is what a slot remembers of the latest certificate of a window.
type certificate struct {
	offset   int64
	replay   string
	revision int
}

// Certify writes a certificate beside the row of its window, if the latest row is of the edition and has the revision and
// the checksum that were counted again: else the answer is VerdictMoved. A certificate that the same recount has written before
// is not written again.
func (h *Held) Certify(ctx context.Context, c ledger.Certificate) (Corrected, error) {
	latest, err := h.readLatest(ctx, c.ID())
	if err != nil {
		return Corrected{}, err
	}
	if latest == nil || latest.Edition != c.Edition || latest.Revision != c.Revision || latest.Checksum != c.Checksum {
		return Corrected{VerdictMoved, latest}, nil
	}
	if known := h.index.certificates[c.ID()]; known.replay == c.Replay && known.revision == c.Revision {
		return Corrected{VerdictDone, latest}, nil
	}
	c.CertifiedAt = h.keep.now().UnixMilli()
	if err := h.sendCertificate(ctx, &c); err != nil {
		h.GiveUpProducer()
		return Corrected{}, &RevisionError{Window: c.Window, Start: c.Start, Revision: c.Revision, Err: err}
	}
	return Corrected{VerdictPublished, latest}, nil
}

func (h *Held) sendCertificate(ctx context.Context, c *ledger.Certificate) error {
	began := h.keep.now()
	text, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode certificate: %w", err)
	}
	records := []Record{{Topic: h.topic.Topic, Partition: h.topic.Partition, Key: c.ID().CertificateKey(), Value: text}}
	if err := h.producer.Begin(); err != nil {
		return err
	}
	if err := Send(ctx, h.producer, records); err != nil {
		return err
	}
	if err := h.producer.Commit(); err != nil {
		return err
	}
	h.index.addCertificate(c, records[0].Offset)
	h.next, h.asOf = max(h.next, records[0].Offset+1), began
	return nil
}
