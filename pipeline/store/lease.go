package store

import (
	"context"
	"fmt"
	"time"
)

// acquireLeaseScript takes or renews a lease that is free, expired, or held by the same token. The expiry is also kept as
// a value because an in-process Redis does not let keys expire by itself.
//
// KEYS[1] lease
// ARGV[1] worker
// ARGV[2] queue
// ARGV[3] token
// ARGV[4] time to live, ms
// Answers {1 if held, worker, queue, token, remaining ms} of the holder
var acquireLeaseScript = newScript("acquire_lease", `
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
local h = redis.call('HMGET', KEYS[1], 'worker', 'queue', 'token', 'until')
if h[3] and h[3] ~= ARGV[3] and tonumber(h[4]) > now then
	return {0, h[1], h[2], h[3], tonumber(h[4]) - now}
end
local ttl = tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'worker', ARGV[1], 'queue', ARGV[2], 'token', ARGV[3], 'until', string.format('%.0f', now + ttl))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return {1, ARGV[1], ARGV[2], ARGV[3], ttl}
`)

// releaseLeaseScript deletes a lease if the token holds it.
//
// KEYS[1] lease
// ARGV[1] token
var releaseLeaseScript = newScript("release_lease", `
if redis.call('HGET', KEYS[1], 'token') == ARGV[1] then return redis.call('UNLINK', KEYS[1]) end
return 0
`)

// readLeaseScript answers {1, worker, queue, token, remaining ms}, or {0} when the lease is free or expired.
//
// KEYS[1] lease
var readLeaseScript = newScript("read_lease", `
local h = redis.call('HMGET', KEYS[1], 'worker', 'queue', 'token', 'until')
if not h[3] then return {0} end
local t = redis.call('TIME')
local left = tonumber(h[4]) - tonumber(t[1]) * 1000 - math.floor(tonumber(t[2]) / 1000)
if left <= 0 then return {0} end
return {1, h[1], h[2], h[3], left}
`)

// AcquireLease takes or renews the lease of a replica for ttl, at least 1 ms, by the server's clock. held is false when
// another token holds it, which holder then names. A holder whose lease was lost (expired, or forgotten by Redis) gets it
// back if nobody else took it.
func (s *Store) AcquireLease(ctx context.Context, pipeline string, replica int, lease Lease, ttl time.Duration) (holder Lease, held bool, err error) {
	if ttl < time.Millisecond {
		return Lease{}, false, fmt.Errorf("lease of %s: ttl is %v, want at least 1ms", leaseName(pipeline, replica), ttl)
	}
	reply, err := s.run(ctx, acquireLeaseScript, []string{leaseKey(pipeline, replica)},
		lease.Worker, lease.Queue, lease.Token, ttl.Milliseconds())
	if err != nil {
		return Lease{}, false, fmt.Errorf("lease of %s: %w", leaseName(pipeline, replica), err)
	}
	return parseLease(reply)
}

// ReleaseLease gives the lease up if token holds it, and does nothing otherwise.
func (s *Store) ReleaseLease(ctx context.Context, pipeline string, replica int, token string) error {
	if _, err := s.run(ctx, releaseLeaseScript, []string{leaseKey(pipeline, replica)}, token); err != nil {
		return fmt.Errorf("release lease of %s: %w", leaseName(pipeline, replica), err)
	}
	return nil
}

// ReadLease returns who holds the replica; found is false when nobody does.
func (s *Store) ReadLease(ctx context.Context, pipeline string, replica int) (holder Lease, found bool, err error) {
	reply, err := s.run(ctx, readLeaseScript, []string{leaseKey(pipeline, replica)})
	if err != nil {
		return Lease{}, false, fmt.Errorf("read lease of %s: %w", leaseName(pipeline, replica), err)
	}
	return parseLease(reply)
}

// leaseName names what a lease is of, for errors. Below 0 the number is no replica's, but that of the closers' turn.
func leaseName(pipeline string, replica int) string {
	if replica < 0 {
		return "the closers of " + pipeline
	}
	return fmt.Sprintf("replica %d of %s", replica, pipeline)
}

func parseLease(reply []any) (l Lease, ok bool, err error) {
	status, err := replyInt(reply, 0)
	if err != nil || status == 0 && len(reply) == 1 {
		return Lease{}, false, err
	}
	left, err := replyInt(reply, 4)
	if err != nil {
		return Lease{}, false, err
	}
	return Lease{
		Worker: replyString(reply, 1),
		Queue:  replyString(reply, 2),
		Token:  replyString(reply, 3),
		TTL:    time.Duration(left) * time.Millisecond,
	}, status == 1, nil
}
