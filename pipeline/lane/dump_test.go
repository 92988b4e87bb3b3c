package lane

import (
	"maps"

	"github.com/alicebob/miniredis/v2"
)

// redisDump is everything that a server held at some moment: hashes and sorted sets.
type redisDump struct {
	hashes map[string]map[string]string
	sets   map[string]map[string]float64
}

func dumpRedis(server *miniredis.Miniredis) *redisDump {
	d := &redisDump{hashes: make(map[string]map[string]string), sets: make(map[string]map[string]float64)}
	for _, key := range server.Keys() {
		if server.Type(key) == "zset" {
			set, _ := server.SortedSet(key)
			d.sets[key] = maps.Clone(set)
			continue
		}
		fields, _ := server.HKeys(key)
		d.hashes[key] = make(map[string]string, len(fields))
		for _, field := range fields {
			d.hashes[key][field] = server.HGet(key, field)
		}
	}
	return d
}

// restore puts everything back into an empty server.
func (d *redisDump) restore(server *miniredis.Miniredis) {
	for key, hash := range d.hashes {
		for field, value := range hash {
			server.HSet(key, field, value)
		}
	}
	for key, set := range d.sets {
		for member, score := range set {
			_, _ = server.ZAdd(key, score, member)
		}
	}
}
