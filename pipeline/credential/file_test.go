package credential

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestSecondChangeWithinASecond leaves neither another size nor another time of change.
func TestSecondChangeWithinASecond(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	f := NewFile(path, 8)
	at := time.Now()
	for _, text := range []string{"one", "two", "six"} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600)) // in place
		require.NoError(t, os.Chtimes(path, at, at))
		got, err := f.Read()
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
}

// TestMountedSecrets are links to files in a directory that a link names, which is replaced: Kubernetes changes them so.
func TestMountedSecrets(t *testing.T) {
	dir := t.TempDir()
	mount := func(version, text string) {
		at := filepath.Join(dir, "..version-"+version)
		require.NoError(t, os.Mkdir(at, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(at, "password"), []byte(text), 0o600))
		require.NoError(t, os.Symlink(at, filepath.Join(dir, "..data.part")))
		require.NoError(t, os.Rename(filepath.Join(dir, "..data.part"), filepath.Join(dir, "..data")))
	}
	mount("1", "one")
	require.NoError(t, os.Symlink(filepath.Join("..data", "password"), filepath.Join(dir, "password")))
	s := InFile(filepath.Join(dir, "password"))
	for version, text := range []string{"one", "two", "six"} {
		if version > 0 {
			mount(fmt.Sprint(version+1), text)
		}
		got, err := s.Get()
		require.NoError(t, err)
		require.Equal(t, text, got)
	}
	require.NoError(t, os.Remove(filepath.Join(dir, "..data")))
	got, err := s.Get()
	require.NoError(t, err)
	require.Equal(t, "six", got, "the last good one")
}

// TestParsedTogether stay as they were while one of the files does not go with the other, which is told once.
func TestParsedTogether(t *testing.T) {
	dir := t.TempDir()
	paths := [2]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	replace(t, paths[0], "1")
	replace(t, paths[1], "1")
	parse := func(contents [][]byte) (string, error) {
		if string(contents[0]) != string(contents[1]) {
			return "", errors.New("is of another pair")
		}
		return string(contents[0]), nil
	}
	var told []string
	p := NewParsed(parse, func(err error) { told = append(told, err.Error()) },
		Part{"a file", NewFile(paths[0], 8)}, Part{"b file", NewFile(paths[1], 8)})
	get := func() string {
		got, err := p.Get()
		require.NoError(t, err)
		return got
	}
	require.Equal(t, "1", get())
	replace(t, paths[0], "2")
	require.Equal(t, []string{"1", "1"}, []string{get(), get()})
	require.Equal(t, []string{"a file " + paths[0] + " is of another pair"}, told)
	replace(t, paths[1], "2")
	require.Equal(t, "2", get())
	require.NoError(t, os.Remove(paths[0]))
	require.Equal(t, []string{"2", "2"}, []string{get(), get()})
	require.Len(t, told, 2)
	require.Contains(t, told[1], "no such file")
}

// TestFileReadByMany while somebody writes it: each reader sees one content or the other.
func TestFileReadByMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	replace(t, path, strings.Repeat("0", 64))
	s := InFile(path)
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for range 200 {
				got, err := s.Get()
				if err != nil || got != strings.Repeat(got[:1], 64) {
					t.Errorf("read %q, %v", got, err)
					return
				}
			}
		})
	}
	for n := range 50 {
		replace(t, path, strings.Repeat(fmt.Sprint(n%10), 64))
	}
	readers.Wait()
}
