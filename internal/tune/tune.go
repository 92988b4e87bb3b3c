package tune

import (
	"fmt"
	"math"
	"time"

	"millrace/internal/machine"
)

// Measured is what a short measurement found.
type Measured struct {
	Redis struct {
		RoundTrip time.Duration `json:"round_trip_ns"` // median of a PING
		Chunks    []Chunk       `json:"chunks"`        // commits of one lane, by lane.chunk_fields
		Loads     []Load        `json:"loads"`         // lanes that commit at one time
	} `json:"redis"`
	Kafka struct {
		RoundTrip time.Duration `json:"round_trip_ns"` // median of a fetch of one batch
		Fetches   []Fetch       `json:"fetches"`       // by lane.fetch_bytes
		Bytes     float64       `json:"record_bytes"`  // of a record, with what Kafka adds
	} `json:"kafka"`
	EventTime time.Duration   `json:"lane_ns_per_event"` // of a lane, decoding and folding
	Machine   machine.Machine `json:"machine"`
	Processes int             `json:"gomaxprocs"`
}

// Chunk is a measured size of Redis calls.
type Chunk struct {
	Fields    int           `json:"fields"`
	PerSecond float64       `json:"fields_per_second"`
	Call      time.Duration `json:"call_ns"` // the server is busy with one call for about that long
}

// Load is a measured number of lanes that commit at one time.
type Load struct {
	Lanes   int           `json:"lanes"`
	Calls   float64       `json:"calls_per_second"`
	Service time.Duration `json:"service_ns"` // mean time of a call, with waiting
	Fields  float64       `json:"fields_per_second"`
}

// Fetch is a measured size of fetches.
type Fetch struct {
	Bytes     int     `json:"bytes"`
	PerSecond float64 `json:"records_per_second"`
}

// Now is what is set now.
type Now struct {
	Lanes, Replicas                       int // of all pipelines that are to run on one worker
	PoolSize                              int
	ChunkFields, FetchBytes, FetchBatches int
	CommitQueue                           int
	CommitInterval                        time.Duration
	MemoryLimit                           int64 // lane.memory_limit of the pipelines together
	Keys                                  int   // distinct keys a lane meets in a commit interval
	GOGC, GoLimit                         string
}

// Advice is one setting.
type Advice struct {
	Option      string `json:"option"`
	Now         string `json:"now"`
	Recommended string `json:"recommended"`
	Why         string `json:"why"`
	Where       string `json:"where"`
}

// Changes reports whether the advice is to change something.
func (a *Advice) Changes() bool { return a.Now != a.Recommended }

const (
	closeEnough = 0.95                 // of the best that was measured: the smallest setting that reaches it is recommended
	longestCall = 5 * time.Millisecond // that Redis may be busy with one call while others wait
	redisBusy   = 0.5                  // share of a commit interval that writing it may take
	poolRoom    = 2                    // times the connections that are busy on average
	poolIdle    = 4                    // times the connections that are needed: beyond, a pool is made smaller
	closerPool  = 4                    // connections of the closer, which reads this many lanes at one time
	otherPool   = 4                    // of status, presence and probes
)

// Advise makes a recommendation of each setting.
func Advise(m *Measured, now Now) []Advice {
	chunk := advisedChunk(m, now.ChunkFields)
	fetch := advisedFetch(m, now.FetchBytes)
	interval, intervalWhy := advisedInterval(m, now)
	pool, poolWhy := advisedPool(m, now, chunk)
	batches, batchesWhy := advisedBatches(m, now, fetch)
	out := []Advice{
		{"redis.pool_size", fmt.Sprint(now.PoolSize), fmt.Sprint(pool), poolWhy, "--redis-pool-size, MILLRACE_REDIS_POOL_SIZE, redis.pool_size"},
		{"lane.chunk_fields", fmt.Sprint(now.ChunkFields), fmt.Sprint(chunk.Fields),
			fmt.Sprintf("within %.0f %% of the best rate, and a call keeps Redis busy for at most %s: %s fields/s, %s a call",
				100*(1-closeEnough), longestCall, per(chunk.PerSecond), short(chunk.Call)), "spec: lane.chunk_fields"},
		{"lane.commit_interval", now.CommitInterval.String(), interval.String(), intervalWhy, "spec: lane.commit_interval"},
		{"lane.commit_queue", fmt.Sprint(now.CommitQueue), "1",
			"one commit in flight and one that waits keep Redis busy; what comes meanwhile joins a later commit and is written once",
			"spec: lane.commit_queue"},
		{"lane.fetch_bytes", fmt.Sprint(now.FetchBytes), fmt.Sprint(fetch.Bytes),
			fmt.Sprintf("within %.0f %% of the best rate: %s records/s", 100*(1-closeEnough), per(fetch.PerSecond)), "spec: lane.fetch_bytes"},
		{"lane.fetch_batches", fmt.Sprint(now.FetchBatches), fmt.Sprint(batches), batchesWhy, "spec: lane.fetch_batches"},
	}
	return append(out, adviseGo(m, now)...)
}

// advisedChunk is what is set now when it is close to the best, or else the smallest that is.
func advisedChunk(m *Measured, now int) Chunk {
	best := Chunk{}
	for _, c := range m.Redis.Chunks {
		if c.PerSecond > best.PerSecond && (c.Call <= longestCall || best.Fields == 0) {
			best = c
		}
	}
	chosen := best
	for _, c := range m.Redis.Chunks {
		good := c.PerSecond >= closeEnough*best.PerSecond && c.Call <= longestCall
		if good && (c.Fields == now || chosen == best) {
			chosen = c
		}
	}
	return chosen
}

// advisedFetch chooses as advisedChunk does.
func advisedFetch(m *Measured, now int) Fetch {
	best := Fetch{}
	for _, f := range m.Kafka.Fetches {
		if f.PerSecond > best.PerSecond {
			best = f
		}
	}
	chosen := best
	for _, f := range m.Kafka.Fetches {
		if f.PerSecond >= closeEnough*best.PerSecond && (f.Bytes == now || chosen == best) {
			chosen = f
		}
	}
	return chosen
}

// capacity is the load at which Redis took most, by the fewest lanes that come close.
func capacity(m *Measured) Load {
	best := Load{}
	for _, l := range m.Redis.Loads {
		if l.Fields > best.Fields {
			best = l
		}
	}
	for _, l := range m.Redis.Loads {
		if l.Fields >= closeEnough*best.Fields {
			return l
		}
	}
	return best
}

// advisedPool is Little's law: connections that are busy on average are calls a second times the time of a call.
func advisedPool(m *Measured, now Now, chunk Chunk) (int, string) {
	at := capacity(m)
	// Calls that commits of all lanes need: chunks of what is dirty, and one that reads the closer's requests.
	wanted := float64(now.Lanes) * (math.Ceil(float64(now.Keys)/float64(max(chunk.Fields, 1))) + 1) / max(now.CommitInterval.Seconds(), 0.001)
	calls := min(wanted, at.Calls)
	busy := calls * at.Service.Seconds()
	most := now.Lanes + closerPool + otherPool // a lane has one call in flight at a time
	pool := min(int(math.Ceil(poolRoom*busy))+closerPool+otherPool, most)
	enough := ""
	if now.PoolSize > pool && now.PoolSize <= poolIdle*pool { // connections that idle cost next to nothing
		pool, enough = now.PoolSize, fmt.Sprintf("; %d are needed, more only idle", pool)
	}
	return pool, fmt.Sprintf("Little: %s calls/s x %s = %.1f connections busy; x %d for bursts + %d closer + %d other, and at most a "+
		"connection for each of %d lanes%s", per(calls), short(at.Service), busy, poolRoom, closerPool, otherPool, now.Lanes, enough)
}

// advisedInterval leaves Redis half of its time: what a commit of every lane takes must fit into half an interval.
func advisedInterval(m *Measured, now Now) (time.Duration, string) {
	at := capacity(m)
	fields := float64(now.Lanes) * float64(now.Keys)
	if at.Fields <= 0 {
		return now.CommitInterval, "Redis was not measured"
	}
	writing := time.Duration(fields / at.Fields * float64(time.Second))
	interval := max(time.Second, time.Duration(math.Ceil(writing.Seconds()/redisBusy))*time.Second)
	return interval, fmt.Sprintf("%d lanes x %d keys = %s fields a commit / %s fields/s = %s of writing, at most %.0f %% of the interval, and 1s "+
		"at least (--keys says how many)", now.Lanes, now.Keys, per(fields), per(at.Fields), short(writing), 100*redisBusy)
}

// advisedBatches keeps a lane busy while a fetch is under way.
func advisedBatches(m *Measured, now Now, fetch Fetch) (int, string) {
	events := float64(fetch.Bytes) / max(m.Kafka.Bytes, 1)
	folding := time.Duration(events * float64(m.EventTime))
	if folding <= 0 {
		return now.FetchBatches, "lanes were not measured"
	}
	batches := max(2, min(16, int(math.Ceil(m.Kafka.RoundTrip.Seconds()/folding.Seconds()))+1))
	return batches, fmt.Sprintf("a fetch takes %s, folding its %s records %s: ceil(%s / %s) + 1, and 2 at least; each holds up to lane.fetch_bytes",
		short(m.Kafka.RoundTrip), per(events), short(folding), short(m.Kafka.RoundTrip), short(folding))
}

func per(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.3gk", v/1e3)
	}
	return fmt.Sprintf("%.3g", v)
}

// short is d with three digits.
func short(d time.Duration) string {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			return d.Round(max(unit/100, 1)).String()
		}
	}
	return d.String()
}
