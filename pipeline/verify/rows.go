package verify

import (
	"context"
	"errors"
	"fmt"

	"millrace/pipeline/ledger"
	"millrace/pipeline/store"
	"millrace/pipeline/view"
)

// rowsAtOnce is how many plain rows are asked for in one call.
const rowsAtOnce = 1000

// checkRows compares the plain rows of a window with the content in Redis that they were written with. Nothing is said of a
// window that shows another revision by then.
func (v *Report) checkRows(ctx context.Context, cfg *Config, id ledger.WindowID, p store.Published) error {
	wanted := cfg.Spec.Results.PlainRows() && p.HasContent
	switch {
	case p.Rows == 0 && !wanted:
		return nil
	case p.Rows == 0:
		v.problem(ProblemView, id.String(), "Redis has no plain rows of revision %d; the next closer that takes the slot over makes them, "+
			"or the next revision", p.Current.Revision)
		return nil
	case p.Rows != p.Current.Revision:
		v.problem(ProblemView, id.String(), "Redis has plain rows of revision %d and shows revision %d", p.Rows, p.Current.Revision)
		return nil
	}
	c := &rowsCheck{cfg: cfg, id: store.WindowID{Pipeline: cfg.Spec.Name, Window: id.Window, Start: id.Start}, revision: p.Rows}
	err := c.compare(ctx)
	var differ *rowsDiffer
	if !errors.As(err, &differ) {
		return err
	}
	v.problem(ProblemView, id.String(), "the plain rows of revision %d are not its content: %s", p.Rows, differ.how)
	return nil
}

// rowsDiffer says how plain rows differ from the content.
type rowsDiffer struct{ how string }

func (e *rowsDiffer) Error() string { return e.how }

type rowsCheck struct {
	cfg      *Config
	id       store.WindowID
	revision int

	keys, values []string // to be compared
	rows         int64    // that the content has
	found        int64    // that the hash had when last asked
}

func (c *rowsCheck) compare(ctx context.Context) error {
	shown, text, err := c.cfg.State.ReadDirectory(ctx, c.id, c.revision)
	var directory *view.Directory
	if err == nil {
		directory, err = view.ParseDirectory(text)
	}
	if err != nil {
		return ignoreLost(err)
	}
	var pages []string
	for i := range directory.Pages {
		if directory.Pages[i].Revision > 0 {
			pages = append(pages, directory.Field(i))
		}
	}
	moved := false
	err = c.cfg.State.ReadViewFields(ctx, c.id, shown.Whole, pages, func(_ int, page []byte) error {
		return view.EachRow(page, func(row ledger.Content) error {
			if row.Deleted || moved {
				return nil
			}
			c.rows++
			c.keys, c.values = append(c.keys, string(row.Key)), append(c.values, string(row.Values))
			if len(c.keys) < rowsAtOnce {
				return nil
			}
			var err error
			moved, err = c.compareSome(ctx)
			return err
		})
	})
	if err == nil && !moved {
		moved, err = c.compareSome(ctx)
	}
	switch {
	case err != nil || moved:
		return ignoreLost(err)
	case c.found != c.rows:
		return &rowsDiffer{fmt.Sprintf("they are %d, and it has %d", c.found, c.rows)}
	}
	return nil
}

// ignoreLost leaves out errors that say that Redis does not have the content, or nothing that can be read: then nothing says
// what the rows should be.
func ignoreLost(err error) error {
	if errors.Is(err, store.ErrNoRevision) || errors.Is(err, view.ErrCorrupt) {
		return nil
	}
	return err
}

// compareSome compares the rows that were collected. moved reports that the hash shows another revision by now.
func (c *rowsCheck) compareSome(ctx context.Context) (moved bool, err error) {
	read, err := c.cfg.State.ReadRows(ctx, c.id, c.keys)
	if err != nil || read.Revision != c.revision {
		return true, err
	}
	for i, value := range read.Values {
		if value != c.values[i] {
			return false, &rowsDiffer{fmt.Sprintf("key %s has %q, and there %q", c.keys[i], value, c.values[i])}
		}
	}
	c.found, c.keys, c.values = read.Rows, c.keys[:0], c.values[:0]
	return false, nil
}
