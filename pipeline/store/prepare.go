package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"
)

// PageBytes is the page size that suits Prepare: long enough for few calls, short enough for none to hold up the server.
const PageBytes = 256 << 10

// preparedFor is how long content is kept that was prepared and never shown: of a window that went away before it was
// published, nobody would look for it. Flip lifts the limit.
const preparedFor = 7 * 24 * time.Hour

// A revision is one hash: "attempt" while it is written, the pages "p0", "p1", ..., and "header" and "pages" once it is
// complete. From then on it never changes.

// beginScript starts an attempt, discarding what an unfinished one left, unless the revision is complete.
//
// KEYS[1] revision
// ARGV[1] attempt
// ARGV[2] ms to keep it unless it is shown
// Answers {1, header, pages, attempt} of the complete revision, or {0}
var beginScript = newScript("begin", `
local done = redis.call('HMGET', KEYS[1], 'header', 'pages', 'attempt')
if done[2] then return {1, done[1], done[2], done[3]} end
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'attempt', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {0}
`)

// pageScript writes a page if the attempt still is the one under way. Answers 1, or 0 if it is not.
//
// KEYS[1] revision
// ARGV[1] attempt
// ARGV[2] page field
// ARGV[3] page
var pageScript = newScript("page", `
local r = redis.call('HMGET', KEYS[1], 'attempt', 'pages')
if r[1] ~= ARGV[1] or r[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
return 1
`)

// completeScript seals the attempt if none of its pages is missing. Answers 1, also when this attempt was sealed before,
// or 0 if another attempt took over or the server lost pages.
//
// KEYS[1] revision
// ARGV[1] attempt
// ARGV[2] number of pages
// ARGV[3] header
var completeScript = newScript("complete", `
local r = redis.call('HMGET', KEYS[1], 'attempt', 'pages')
if r[1] ~= ARGV[1] then return 0 end
if r[2] then return 1 end
if redis.call('HLEN', KEYS[1]) ~= tonumber(ARGV[2]) + 1 then return 0 end
redis.call('HSET', KEYS[1], 'header', ARGV[3], 'pages', ARGV[2])
return 1
`)

// Prepare freezes the content of a revision. build adds the pages (bytes of any kind, best about PageBytes long; they may
// be reused after add returns) and returns the header. If the revision is complete already, from whatever attempt, build
// is not called, fresh is false, and the stored content is the one to publish. An attempt that was interrupted leaves
// nothing that counts. ErrSuperseded means that another attempt has begun since: prepare again.
func (s *Store) Prepare(ctx context.Context, id WindowID, rev int,
	build func(add func(page []byte) error) (header []byte, err error),
) (r Revision, fresh bool, err error) {
	var random [16]byte
	rand.Read(random[:])
	attempt := hex.EncodeToString(random[:])
	keys := []string{id.revisionKey(rev)}
	fail := func(err error) (Revision, bool, error) {
		return Revision{}, false, fmt.Errorf("prepare revision %d of %s: %w", rev, id, err)
	}

	reply, err := s.run(ctx, beginScript, keys, attempt, preparedFor.Milliseconds())
	if err != nil {
		return fail(err)
	}
	if len(reply) == 4 {
		pages, err := replyInt(reply, 2)
		if err != nil {
			return fail(err)
		}
		return Revision{Number: rev, Pages: int(pages), Header: []byte(replyString(reply, 1)), Attempt: replyString(reply, 3)}, false, nil
	}
	pages := 0
	header, err := build(func(page []byte) error {
		reply, err := s.run(ctx, pageScript, keys, attempt, pageField(pages), page)
		if err != nil {
			return err
		}
		if reply[0] != int64(1) {
			return ErrSuperseded
		}
		pages++
		return nil
	})
	if err != nil {
		return fail(err)
	}
	reply, err = s.run(ctx, completeScript, keys, attempt, pages, header)
	if err != nil {
		return fail(err)
	}
	if reply[0] != int64(1) {
		return fail(ErrSuperseded)
	}
	return Revision{Number: rev, Pages: pages, Header: header, Attempt: attempt}, true, nil
}

// discardScript unlinks a revision if the attempt is the one that it comes from. Answers how many it unlinked.
//
// KEYS[1] revision
// ARGV[1] attempt
var discardScript = newScript("discard", `
if redis.call('HGET', KEYS[1], 'attempt') ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
`)

// Discard takes back what an attempt has prepared, so that the revision can be prepared anew. That is for one who knows that
// it was not published and will not be. What another attempt has prepared stays.
func (s *Store) Discard(ctx context.Context, id WindowID, rev int, attempt string) error {
	if _, err := s.run(ctx, discardScript, []string{id.revisionKey(rev)}, attempt); err != nil {
		return fmt.Errorf("discard revision %d of %s: %w", rev, id, err)
	}
	return nil
}

// ReadRevision passes the pages of a complete revision to fn in order; a page is valid only during the call. An error of
// fn is returned as it is. ErrNoRevision: not there, not complete, or trimmed meanwhile.
func (s *Store) ReadRevision(ctx context.Context, id WindowID, rev int, fn func(page []byte) error) (Revision, error) {
	key := id.revisionKey(rev)
	fail := func(err error) (Revision, error) {
		return Revision{}, fmt.Errorf("read revision %d of %s: %w", rev, id, err)
	}
	head, err := s.client.HMGet(ctx, key, "header", "pages", "attempt").Result()
	if err != nil {
		return fail(err)
	}
	if head[1] == nil {
		return fail(ErrNoRevision)
	}
	pages, err := replyInt(head, 1)
	if err != nil {
		return fail(err)
	}
	for i := range int(pages) {
		page, err := s.client.HMGet(ctx, key, pageField(i)).Result()
		if err != nil {
			return fail(err)
		}
		if page[0] == nil {
			return fail(ErrNoRevision)
		}
		if err := fn(bytesOf(replyString(page, 0))); err != nil {
			return Revision{}, err
		}
	}
	return Revision{Number: rev, Pages: int(pages), Header: []byte(replyString(head, 0)), Attempt: replyString(head, 2)}, nil
}

func pageField(i int) string { return "p" + strconv.Itoa(i) }
