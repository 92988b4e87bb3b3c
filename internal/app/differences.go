package app

import (
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/result"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/diff"
	"millrace/pipeline/spec"
	"millrace/pipeline/store"
)

// jobs are what the closer of a pipeline carries out beside closing.
func (c *closers) jobs(s *spec.Spec) map[string]result.JobKind {
	found := differences{c.store}
	return map[string]result.JobKind{
		result.JobCorrections: result.Corrections{From: found}, result.JobCertify: result.Certify{From: found},
		result.JobRollup: result.Rollups{Late: c.lateEvents(s)}, result.JobArchive: result.Archives{Shared: c.shared},
	}
}

// differences are what shadows have found, as a closer carries it out.
type differences struct{ store *store.Store }

var _ result.Differences = differences{}

// Open implements result.Differences.
func (d differences) Open(ctx context.Context, pipeline, replay string) (result.Difference, error) {
	r := shadow.NewReader(d.store, pipeline, replay)
	m, err := r.Manifest(ctx)
	if errors.Is(err, store.ErrNoShadow) {
		return nil, result.ErrNoDifference
	}
	if err != nil {
		return nil, err
	}
	out := &difference{reader: r, checksum: m.Checksum, headers: make(map[ledger.WindowID]*diff.Header)}
	var read []ledger.CertifiedLane
	for i := range m.Plan.Lanes {
		l := &m.Plan.Lanes[i]
		read = append(read, ledger.CertifiedLane{
			Topic: l.Topic, Partition: l.Partition, From: l.Start, To: l.End, TopicID: l.TopicID, Era: l.Era,
		})
	}
	for _, h := range m.Headers {
		if h == nil || h.Problem != "" { // it was published anew before it was compared
			continue
		}
		out.headers[h.ID()] = h
		out.counted = append(out.counted, result.Counted{
			Row: h.Row, BaseRevision: h.BaseRevision, BaseChecksum: h.BaseChecksum, Equal: h.Equal, Scope: h.Scope, Read: read,
		})
	}
	return out, nil
}

// difference is what one shadow has found.
type difference struct {
	reader   *shadow.Reader
	checksum string
	counted  []result.Counted
	headers  map[ledger.WindowID]*diff.Header
}

func (d *difference) Checksum() string          { return d.checksum }
func (d *difference) Counted() []result.Counted { return d.counted }

// Content implements result.Difference.
func (d *difference) Content(ctx context.Context, id ledger.WindowID, base []ledger.Content, emit func(ledger.Content) error) error {
	h := d.headers[id]
	if h == nil {
		return fmt.Errorf("%w: window %s was not compared", publish.ErrWrongContent, id)
	}
	rows, err := d.reader.Rows(ctx, h)
	if err != nil {
		return err
	}
	applying := diff.NewApplying(rows, emit)
	for _, row := range base {
		if err := applying.AddBase(row); err != nil {
			return wrongContent(err)
		}
	}
	return wrongContent(applying.End(h))
}

// wrongContent marks an error that says that a difference and its base do not belong together.
func wrongContent(err error) error {
	if errors.Is(err, diff.ErrBase) {
		return fmt.Errorf("%w: %w", publish.ErrWrongContent, err)
	}
	return err
}
