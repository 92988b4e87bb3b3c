package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
)

// fieldsOfRead is how many fields one call of ReadViewFields asks for: about 1 MiB of pages of the
// usual length.
const fieldsOfRead = 32

// directoryScript answers {whole revision that the revision stands under}, followed by {attempt,
// directory} if that is the whole revision asked for; or {} when the revision is not shown with a
// content.
//
// KEYS[1] ledger
// KEYS[2] content
// ARGV[1] revision
// ARGV[2] whole revision
var directoryScript = newScript("directory", `
local shown = redis.call('HMGET', KEYS[1], 'current', 'view:' .. ARGV[1])
if not shown[1] or not shown[2] then return {} end
if tonumber(ARGV[1]) > tonumber(shown[1]) or tonumber(ARGV[1]) < tonumber(shown[1]) - 1 then return {} end
if shown[2] ~= ARGV[2] then return {shown[2]} end
local head = redis.call('HMGET', KEYS[2], 'attempt', 'dir:' .. ARGV[1])
if not head[1] or not head[2] then return {} end
return {shown[2], head[1], head[2]}
`)

// ReadDirectory returns the view of the current revision or the one before, and its directory.
// ErrNoRevision: Redis has no content of the revision, not any more, or only in the form that
// ReadRevision reads.
func (s *Store) ReadDirectory(ctx context.Context, id WindowID, rev int) (View, []byte, error) {
	fail := func(err error) (View, []byte, error) {
		return View{}, nil, fmt.Errorf("read the directory of revision %d of %s: %w", rev, id, err)
	}
	whole := rev
	for range ledgerAttempts {
		reply, err := s.query(ctx, directoryScript, []string{id.ledgerKey(), id.viewKey(whole)}, rev, whole)
		if err != nil {
			return fail(err)
		}
		if len(reply) == 0 {
			return fail(ErrNoRevision)
		}
		found, err := replyInt(reply, 0)
		if err != nil {
			return fail(err)
		}
		if len(reply) == 3 {
			return View{Whole: whole, Attempt: replyString(reply, 1)}, []byte(replyString(reply, 2)), nil
		}
		whole = int(found)
	}
	return fail(errViewsChange)
}

// ReadViewFields passes fields of a content to fn in the order of their names, i being the index in
// names; a value is valid only during the call. One call to Redis asks for at most 32 of them. An
// error of fn is returned as it is. ErrNoRevision: a field is not there, any more, or the server has
// lost it. Whose attempt the fields are is not looked at: a reader compares what they add up to with
// the ledger row.
func (s *Store) ReadViewFields(ctx context.Context, id WindowID, whole int, names []string,
	fn func(i int, value []byte) error) error {
	fail := func(err error) error {
		return fmt.Errorf("read the content of %s under revision %d: %w", id, whole, err)
	}
	first := 0
	for batch := range slices.Chunk(names, fieldsOfRead) {
		values, err := s.client.HMGet(ctx, id.viewKey(whole), batch...).Result()
		if err != nil {
			return fail(err)
		}
		for i := range batch {
			if values[i] == nil {
				return fail(fmt.Errorf("%w: field %s is missing", ErrNoRevision, batch[i]))
			}
			if err := fn(first+i, bytesOf(replyString(values, i))); err != nil {
				return err
			}
		}
		first += len(batch)
	}
	return nil
}

// ReadRevision passes the pages of a revision to fn in order; a page is valid only during the call.
// It reads what earlier releases have written, a hash for each revision; contents of this one have
// a directory (ReadDirectory). An error of fn is returned as it is. ErrNoRevision: not there in that
// form, not complete, or trimmed meanwhile.
func (s *Store) ReadRevision(ctx context.Context, id WindowID, rev int, fn func(page []byte) error) error {
	key := id.revisionKey(rev)
	fail := func(err error) error { return fmt.Errorf("read revision %d of %s: %w", rev, id, err) }
	head, err := s.client.HMGet(ctx, key, "pages").Result()
	if err != nil {
		return fail(err)
	}
	if head[0] == nil {
		return fail(ErrNoRevision)
	}
	pages, err := replyInt(head, 0)
	if err != nil {
		return fail(err)
	}
	for i := range int(pages) {
		page, err := s.client.HMGet(ctx, key, "p"+strconv.Itoa(i)).Result()
		if err != nil {
			return fail(err)
		}
		if page[0] == nil {
			return fail(ErrNoRevision)
		}
		if err := fn(bytesOf(replyString(page, 0))); err != nil {
			return err
		}
	}
	return nil
}
