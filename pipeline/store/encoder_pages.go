package store

// pagesCall is call for PageFormat.
func (e *encoder) pagesCall(c *Call, withSource bool) []any {
	start := len(e.args)
	if withSource {
		e.args = append(e.args, "eval", applyPagesSource)
	} else {
		e.args = append(e.args, "evalsha", applyPagesScript.Hash())
	}
	e.int(int64(3 + len(c.Delete) + len(c.Pages)))
	e.args = append(e.args, e.meta) // a plain string: go-redis routes by it
	e.str(e.slices)
	e.str(e.folds)
	for i := range c.Delete {
		e.str(pageKey(e.pages, c.Delete[i].Slice, c.Delete[i].Hash))
	}
	for i := range c.Pages {
		e.str(pageKey(e.pages, c.Pages[i].Slice, c.Pages[i].Hash))
	}
	kind, folds := metaKind(c.Meta)
	e.str(e.owner)
	e.str(c.Prev.String())
	e.str(c.Next.String())
	e.int(int64(c.Registered))
	e.int(kind)
	e.int(PageFormat)
	e.str(e.pages)
	e.str(e.prefix)
	e.int(int64(c.Buckets))
	e.int(int64(len(c.Drop) + len(c.Purge)))
	e.int(int64(len(c.Unfield)))
	e.int(int64(len(c.Delete)))
	e.int(int64(len(c.Pages)))
	e.int(folds)
	e.drops(c)
	for _, slice := range c.Unfield {
		e.str(e.slice(slice))
	}
	for i := range c.Delete {
		d := &c.Delete[i]
		e.int(int64(len(d.Names)))
		for n := range d.Names {
			e.args = append(e.args, &d.Names[n])
		}
	}
	e.pageWrites(c.Pages)
	if c.Meta != nil {
		e.metaUpdate(c.Meta)
	}
	return e.args[start:len(e.args):len(e.args)]
}

func (e *encoder) pageWrites(pages []PageWrite) {
	for i := range pages {
		w := &pages[i]
		if i > 0 && w.Slice == pages[i-1].Slice {
			e.str("")
		} else {
			e.str(e.slice(w.Slice))
		}
		e.int(w.Slice.End())
		e.args = append(e.args, &w.Name, &w.Value)
		e.bytes += len(w.Value)
	}
}
