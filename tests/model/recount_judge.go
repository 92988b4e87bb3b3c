package model

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/shadow"
	"millrace/pipeline/shadow/found"
	"millrace/tests/oracle"
)

// eachRow passes the rows of a result of the oracle to fn.
func eachRow(res *oracle.Result, fn func(id windowID, key, values string)) error {
	var text bytes.Buffer
	if err := res.WriteJSON(&text); err != nil {
		return err
	}
	for rows := json.NewDecoder(&text); ; {
		var row struct {
			Window      string
			Start       time.Time
			Key, Values json.RawMessage
		}
		err := rows.Decode(&row)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fn(windowID{row.Window, row.Start.UnixMilli()}, string(row.Key), string(row.Values))
	}
}

// judge: what was counted is what the oracle counts, the difference is what differs from what is published, and nothing
// differs when the windows are counted as they were.
func (r *recount) judge() {
	w := r.w
	reader := shadow.NewReader(w.lab.store, pipeline, r.id)
	m, err := reader.Manifest(w.ctx)
	if err != nil || m.Checksum == "" {
		w.fail("recount %s: %q, %v", r.id, m.Checksum, err)
		return
	}
	if err := w.ledger.read(); err != nil {
		w.fail("ledger: %v", err)
		return
	}
	contents := &publish.Contents{Kafka: w.kafka, State: w.lab.store}
	for i, h := range m.Headers {
		id := r.plan.Windows[i].ID()
		if h == nil || h.Problem != "" || h.ID() != id {
			w.fail("recount %s of %s: %+v", r.id, id, h)
			return
		}
		c := &counted{id: id, header: h, content: map[string]string{}, base: map[string]string{}}
		if c.rows, err = reader.Rows(w.ctx, h); err != nil {
			w.fail("recount %s of %s: %v", r.id, id, err)
			return
		}
		var base []ledger.Content
		if rows := w.ledger.rows[windowID{id.Window, id.Start}]; h.BaseRevision > 0 {
			if base, err = contents.Read(w.ctx, &rows[len(rows)-1]); err != nil {
				w.fail("recount %s of %s: %v", r.id, id, err)
				return
			}
		}
		if err := c.apply(w.ctx, base); err != nil {
			w.fail("recount %s of %s: %v", r.id, id, err)
			return
		}
		r.judgeWindow(c)
		r.counted = append(r.counted, c)
	}
	w.logf("recount %s has found %+v", r.id, m.Result())
}

// apply makes the content out of its base and the difference.
func (c *counted) apply(ctx context.Context, base []ledger.Content) error {
	for _, row := range base {
		c.base[string(row.Key)] = string(row.Values)
	}
	var sum ledger.Checksum
	row := &c.header.Row
	patch := publish.NewPatch(row.Events, found.Changes(c.rows)).On(&publish.Base{Rows: base})
	_, _, err := patch.Whole(ctx, func(rows *ledger.Rows) error {
		for _, content := range rows.Content {
			if sum.AddContent(content); !content.Deleted {
				c.content[string(content.Key)] = string(content.Values)
			}
		}
		return nil
	})
	if err == nil && (sum.Rows() != row.Keys || sum.String() != row.Checksum) {
		err = fmt.Errorf("%d keys with checksum %s, the header says %d and %s", sum.Rows(), &sum, row.Keys, row.Checksum)
	}
	return err
}

func (r *recount) judgeWindow(c *counted) {
	w := r.w
	id := windowID{c.id.Window, c.id.Start}
	if r.exempt(w.refOf(id)) {
		return
	}
	w.out.Compared++
	if !c.header.Equal {
		w.out.Differ++
	}
	if !maps.Equal(c.content, r.want[id]) {
		w.fail("recount %s (%s) of %s counts %v, the oracle %v", r.id, r.ask.Lateness, c.id, c.content, r.want[id])
	}
	if r.same && !r.again && !c.header.Equal {
		w.fail("recount %s of %s differs from what is published: %+v", r.id, c.id, c.header)
	}
	named := map[string]bool{}
	for i := range c.rows {
		key := string(c.rows[i].Key)
		named[key] = true
		if string(c.rows[i].Old) != c.base[key] || string(c.rows[i].New) != c.content[key] {
			w.fail("recount %s of %s: %s was %q and is %q in the difference, %q and %q in the contents", r.id, c.id, key,
				c.rows[i].Old, c.rows[i].New, c.base[key], c.content[key])
		}
	}
	for _, key := range slices.Concat(sortedKeys(c.base), sortedKeys(c.content)) {
		if differs := c.base[key] != c.content[key]; differs != named[key] {
			w.fail("recount %s of %s: key %s differs: %t, and is in the difference: %t", r.id, c.id, key, differs, named[key])
		}
	}
}
