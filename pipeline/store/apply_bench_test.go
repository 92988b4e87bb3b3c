package store_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/pipeline/store"
	"millrace/pipeline/store/storetest"
)

const (
	benchEntries = 16384 // per commit
	benchBuckets = 16
	entryBytes   = 96
)

// benchCommit builds the calls of a commit of benchEntries entries spread over slices and all buckets. A write holds the
// entries of one slice and bucket, so with many slices a chunk is made of many writes.
func benchCommit(chunk, slices int) []store.Call {
	perWrite := benchEntries / slices / benchBuckets
	entry := string(make([]byte, entryBytes))
	var calls []store.Call
	var open store.Call
	inCall := 0
	flush := func() {
		if inCall > 0 {
			calls = append(calls, open)
			open, inCall = store.Call{}, 0
		}
	}
	update := &store.MetaUpdate{Offset: 1}
	for s := range slices {
		slice := store.SliceID{Width: 3600000, Start: int64(s) * 3600000}
		update.Slices = append(update.Slices, store.SliceStat{SliceID: slice})
		for bucket := range benchBuckets {
			for first := 0; first < perWrite; {
				n := min(perWrite-first, chunk-inCall)
				fields := make([]string, 0, 2*n)
				for i := range n {
					fields = append(fields, "key-"+strconv.Itoa(bucket)+"-"+strconv.Itoa(first+i), entry)
				}
				open.Writes = append(open.Writes, store.Write{Slice: slice, Bucket: bucket, Fields: fields})
				first += n
				if inCall += n; inCall == chunk {
					flush()
				}
			}
		}
	}
	flush()
	return append(calls, store.Call{Meta: update})
}

// chain places the calls behind the cursor.
func chain(calls []store.Call, at store.Cursor) store.Cursor {
	next := at.NextCommit()
	for i := range calls {
		calls[i].Prev, calls[i].Next = at, next
		at, next = next, next.NextChunk()
	}
	return at
}

func benchServers(b *testing.B, fn func(b *testing.B, client redis.UniversalClient)) {
	b.Run("server=redis", func(b *testing.B) { fn(b, storetest.Client(b, storetest.StartRedis(b), false)) })
	b.Run("server=miniredis", func(b *testing.B) { fn(b, storetest.Client(b, miniredis.RunT(b).Addr(), false)) })
}

// report gives the rate and, where the server tells, its processor time per field, which a busy machine disturbs less.
func report(b *testing.B, client redis.UniversalClient, before float64) {
	fields := float64(benchEntries) * float64(b.N)
	b.ReportMetric(fields/b.Elapsed().Seconds(), "fields/s")
	if used := serverCPU(client) - before; used > 0 {
		b.ReportMetric(used*1e9/fields, "server-ns/field")
	}
}

// serverCPU returns the processor seconds the server has used, 0 if it does not tell.
func serverCPU(client redis.UniversalClient) float64 {
	var sum float64
	for line := range strings.Lines(client.Info(ctx, "cpu").Val()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			seconds, _ := strconv.ParseFloat(value, 64)
			sum += seconds
		}
	}
	return sum
}

func BenchmarkApply(b *testing.B) {
	benchServers(b, func(b *testing.B, client redis.UniversalClient) {
		for _, slices := range []int{1, 16} {
			for _, chunk := range []int{64, 256, 512, 1024, 4096} {
				b.Run(fmt.Sprintf("slices=%d/chunk=%d", slices, chunk), func(b *testing.B) {
					require.NoError(b, client.FlushAll(ctx).Err())
					s := store.New(client)
					meta, _, err := s.Acquire(ctx, lane, stateID, "", "1:bench")
					require.NoError(b, err)
					calls, at := benchCommit(chunk, slices), meta.Cursor
					before := serverCPU(client)
					b.ReportAllocs()
					b.SetBytes(benchEntries * (entryBytes + 12))
					for b.Loop() {
						at = chain(calls, at)
						if _, err := s.Apply(ctx, lane, stateID, "1:bench", calls); err != nil {
							b.Fatal(err)
						}
					}
					report(b, client, before)
				})
			}
		}
	})
}

// BenchmarkPlainHSet writes the same fields by pipelined HSETs without any protocol, as the measure for BenchmarkApply.
func BenchmarkPlainHSet(b *testing.B) {
	benchServers(b, func(b *testing.B, client redis.UniversalClient) {
		for _, slices := range []int{1, 16} {
			b.Run(fmt.Sprintf("slices=%d/chunk=512", slices), func(b *testing.B) {
				require.NoError(b, client.FlushAll(ctx).Err())
				calls := benchCommit(512, slices)
				before := serverCPU(client)
				b.ReportAllocs()
				b.SetBytes(benchEntries * (entryBytes + 12))
				for b.Loop() {
					pipe := client.Pipeline()
					for i := range calls {
						for j := range calls[i].Writes {
							w := &calls[i].Writes[j]
							args := make([]any, 0, 2+len(w.Fields))
							args = append(args, "hset", fmt.Sprintf("{plain}:%v:%d", w.Slice, w.Bucket))
							for f := range w.Fields {
								args = append(args, &w.Fields[f])
							}
							pipe.Process(ctx, redis.NewStatusCmd(ctx, args...))
						}
					}
					pipe.Exec(ctx)
				}
				report(b, client, before)
			})
		}
	})
}
