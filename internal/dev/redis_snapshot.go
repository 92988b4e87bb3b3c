package dev

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// snapshotFormat is the version of the snapshot file. A file of another version is refused, never guessed at.
const snapshotFormat = 1

// snapshot is what the embedded Redis keeps from one clean Close to the next start. It is no persistence: after a crash
// there is none, and what is in it is gone from the disk as soon as the next server runs, so that a crash can never bring
// back state older than a start.
type snapshot struct {
	Format  int
	Hashes  map[string]map[string]string
	Sorted  map[string]map[string]float64
	Strings map[string]string
	TTLs    map[string]time.Duration
}

func snapshotFile(dir string) string { return filepath.Join(dir, "redis.snapshot") }

// saveSnapshot writes every key to dir.
func saveSnapshot(mini *miniredis.Miniredis, dir string) error {
	s, err := takeSnapshot(mini.DB(0))
	if err != nil {
		return err
	}
	name := snapshotFile(dir)
	f, err := os.Create(name + ".part")
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err := errors.Join(gob.NewEncoder(w).Encode(s), w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(name+".part", name)
}

func takeSnapshot(db *miniredis.RedisDB) (*snapshot, error) {
	s := &snapshot{
		Format: snapshotFormat, Hashes: map[string]map[string]string{}, Sorted: map[string]map[string]float64{},
		Strings: map[string]string{}, TTLs: map[string]time.Duration{},
	}
	for _, key := range db.Keys() {
		switch kind := db.Type(key); kind {
		case "hash":
			fields, err := db.HKeys(key)
			if err != nil {
				return nil, err
			}
			hash := make(map[string]string, len(fields))
			for _, field := range fields {
				hash[field] = db.HGet(key, field)
			}
			s.Hashes[key] = hash
		case "zset":
			members, err := db.SortedSet(key)
			if err != nil {
				return nil, err
			}
			s.Sorted[key] = members
		case "string":
			value, err := db.Get(key)
			if err != nil {
				return nil, err
			}
			s.Strings[key] = value
		default:
			return nil, fmt.Errorf("key %q: a %s cannot be kept, only hashes, sorted sets and strings", key, kind)
		}
		if ttl := db.TTL(key); ttl > 0 {
			s.TTLs[key] = ttl
		}
	}
	return s, nil
}

// loadSnapshot brings back what saveSnapshot wrote to dir, if anything.
func loadSnapshot(mini *miniredis.Miniredis, dir string) error {
	name := snapshotFile(dir)
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var s snapshot
	if err := gob.NewDecoder(bufio.NewReader(f)).Decode(&s); err != nil {
		return fmt.Errorf("%s is damaged (remove it to start empty): %w", name, err)
	}
	if s.Format != snapshotFormat {
		return fmt.Errorf("%s has format %d, this program knows %d (remove it to start empty)", name, s.Format, snapshotFormat)
	}
	if err := s.restore(mini.DB(0)); err != nil {
		return fmt.Errorf("restore %s: %w", name, err)
	}
	return nil
}

// dropSnapshot removes what loadSnapshot has read, once the server runs.
func dropSnapshot(dir string) error {
	if err := os.Remove(snapshotFile(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (s *snapshot) restore(db *miniredis.RedisDB) error {
	for key, hash := range s.Hashes {
		pairs := make([]string, 0, 2*len(hash))
		for field, value := range hash {
			pairs = append(pairs, field, value)
		}
		db.HSet(key, pairs...)
	}
	for key, members := range s.Sorted {
		for member, score := range members {
			if _, err := db.ZAdd(key, score, member); err != nil {
				return err
			}
		}
	}
	for key, value := range s.Strings {
		if err := db.Set(key, value); err != nil {
			return err
		}
	}
	for key, ttl := range s.TTLs {
		db.SetTTL(key, ttl)
	}
	return nil
}
