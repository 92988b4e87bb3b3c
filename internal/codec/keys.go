// Package codec encrypts what Temporal stores: inputs, results, heartbeats, memos, summaries, details and the texts of failures. Keys
// come from files and are rotated by putting a new one in front; what was written before, with an earlier key or with none, stays
// readable. Ids and types of workflows and activities, names of signals and updates, search attributes and the reasons of
// terminations are not payloads: Temporal needs to read them.
package codec

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/pipeline/credential"
)

// keyBytes is the length of a key: AES-256.
const keyBytes = 32

// maxKeys bounds the files of a directory.
const maxKeys = 1000

// rescan is how often a directory of keys is looked through at most.
const rescan = time.Second

// Config names the keys. The zero value is none: payloads go out as they are, and those that come in encrypted are an error.
type Config struct {
	// Files are ID=FILE. The first key encrypts, all decrypt.
	Files []string
	// Dir holds a file for each key, named by the key's id. The last by name encrypts, all decrypt. It is looked through again when a
	// payload names a key that is not known, and once a second at most otherwise.
	Dir string
}

// Keys are the keys as they are in their files now. They are safe for concurrent use.
type Keys struct {
	dir   string
	first string // the id of the key that encrypts

	mu      sync.Mutex // guards the rest
	files   map[string]*credential.Parsed[cipher.AEAD]
	scanned time.Time
}

// keyFile is a key that is made anew when its file has changed. While a new content is no key, the last good one stays in force.
func keyFile(id, path string) *credential.Parsed[cipher.AEAD] {
	return credential.NewParsed(func(contents [][]byte) (cipher.AEAD, error) {
		key, err := parseKey(contents[0])
		if err != nil {
			return nil, err
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	}, nil, credential.Part{Kind: fmt.Sprintf("key %q", id), File: credential.NewFile(path, credential.MaxSecretBytes)})
}

// Open reads all keys once. An error names the key, its file and what is wrong, never the key's content.
func Open(c Config) (*Keys, error) {
	k := &Keys{dir: c.Dir, files: make(map[string]*credential.Parsed[cipher.AEAD])}
	switch {
	case len(c.Files) > 0 && c.Dir != "":
		return nil, errors.New("keys are given one by one and as a directory; want one of both")
	case c.Dir != "":
		if err := k.scan(time.Now()); err != nil {
			return nil, err
		}
	}
	for i, entry := range c.Files {
		id, path, err := splitEntry(entry)
		if err != nil {
			return nil, fmt.Errorf("key %d of %d %w", i+1, len(c.Files), err)
		}
		if k.files[id] != nil {
			return nil, fmt.Errorf("key %q is there twice; want every id once", id)
		}
		if k.files[id] = keyFile(id, path); i == 0 {
			k.first = id
		}
	}
	for _, file := range k.files {
		if _, err := file.Get(); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Empty reports whether there is no key at all.
func (k *Keys) Empty() bool { return k.dir == "" && k.first == "" }

// CheckEntry says what is wrong with one of Config.Files, without repeating what may be a key.
func CheckEntry(entry string) error {
	_, _, err := splitEntry(entry)
	return err
}

func splitEntry(entry string) (id, path string, err error) {
	id, path, ok := strings.Cut(entry, "=")
	if !ok || path == "" {
		return "", "", errors.New("is not ID=FILE")
	}
	if err := checkID(id); err != nil {
		return "", "", fmt.Errorf("is not ID=FILE: %w", err)
	}
	if len(path) > keyBytes {
		if _, err := parseKey([]byte(path)); err == nil {
			return "", "", fmt.Errorf("says the key %q itself; want ID=FILE, the path of a file that holds it", id)
		}
	}
	return id, path, nil
}

// checkID refuses ids that would not be seen for what they are in a history.
func checkID(id string) error {
	for _, r := range id {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '.', r == '-', r == '_':
		default:
			return fmt.Errorf("key id %q is not valid; want letters, digits, dots, hyphens and underscores", id)
		}
	}
	if id == "" || len(id) > 128 {
		return fmt.Errorf("a key id has %d characters; want 1 to 128", len(id))
	}
	return nil
}

// scan looks through the directory. The caller holds the lock, or nobody else has k yet. After an error the keys are what they were.
func (k *Keys) scan(now time.Time) error {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return err
	}
	var ids []string
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, ".") { // mounted secrets have hidden names beside theirs
			ids = append(ids, name)
		}
	}
	switch {
	case len(ids) == 0:
		return fmt.Errorf("directory %s holds no key", k.dir)
	case len(ids) > maxKeys:
		return fmt.Errorf("directory %s holds %d files; want at most %d keys", k.dir, len(ids), maxKeys)
	}
	files := make(map[string]*credential.Parsed[cipher.AEAD], len(ids))
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return fmt.Errorf("directory %s: %w", k.dir, err)
		}
		if files[id] = k.files[id]; files[id] == nil {
			files[id] = keyFile(id, filepath.Join(k.dir, id))
		}
	}
	k.files, k.scanned = files, now
	// A new key encrypts once its file holds one: somebody may be writing it.
	first := slices.Max(ids)
	if _, err := files[first].Get(); err == nil || files[k.first] == nil {
		k.first = first
	}
	return nil
}

// encrypting returns the key that encrypts.
func (k *Keys) encrypting() (id string, aead cipher.AEAD, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); k.dir != "" && now.Sub(k.scanned) >= rescan {
		_ = k.scan(now) // while the directory cannot be read, its last keys stay in force
	}
	aead, err = k.files[k.first].Get()
	return k.first, aead, err
}

// decrypting returns a key by its id.
func (k *Keys) decrypting(id string) (cipher.AEAD, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); k.files[id] == nil && k.dir != "" && now.Sub(k.scanned) >= rescan {
		if err := k.scan(now); err != nil {
			return nil, err
		}
	}
	if k.files[id] == nil {
		return nil, &UnknownKeyError{ID: id}
	}
	return k.files[id].Get()
}

// parseKey reads 32 bytes: as they are, or as hexadecimal or base64 text.
func parseKey(text []byte) ([]byte, error) {
	if len(text) == keyBytes {
		return text, nil
	}
	trimmed := strings.TrimSpace(string(text))
	if key, err := hex.DecodeString(trimmed); err == nil && len(key) == keyBytes {
		return key, nil
	}
	if key, err := base64.StdEncoding.DecodeString(trimmed); err == nil && len(key) == keyBytes {
		return key, nil
	}
	return nil, fmt.Errorf("holds no key; want %d bytes, as they are or as hexadecimal or base64 text", keyBytes)
}

// UnknownKeyError says that a payload was encrypted with a key that is not there.
type UnknownKeyError struct{ ID string }

func (e *UnknownKeyError) Error() string {
	return fmt.Sprintf("a payload is encrypted with key %q, which is not among the keys; add it to temporal.codec.keys (MILLRACE_CODEC_KEYS) "+
		"or temporal.codec.key_dir (MILLRACE_CODEC_KEY_DIR)", e.ID)
}
