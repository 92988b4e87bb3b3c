package store

import "github.com/redis/go-redis/v9"

// Store runs the lane and closing protocols against Redis. It is safe for concurrent use and holds no state of its own, but
// for which keys it probes the nodes of a Cluster with.
type Store struct {
	client        redis.UniversalClient
	pipelineBytes int   // field bytes after which Apply waits for the answers
	pageEntries   int   // entries that one read brings at the most, roughly
	pageBytes     int64 // bytes of entries that one read brings at the most, roughly
	probes        probeKeys
}

const (
	defaultPipelineBytes = 1 << 20
	defaultPageEntries   = 8192
	defaultPageBytes     = 4 << 20
)

// New returns a store over client, which should come from NewClient. Closing the client is the caller's business.
func New(client redis.UniversalClient) *Store {
	return &Store{
		client: client, pipelineBytes: defaultPipelineBytes, pageEntries: defaultPageEntries, pageBytes: defaultPageBytes,
		probes: probeKeys{tag: make(map[string]int)},
	}
}
