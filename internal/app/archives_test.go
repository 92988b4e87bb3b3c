package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/archive"
)

// mount lets a process of the fleet see an archive in every directory; without an id it sees none.
func (p *parish) mount(name, id string) {
	a := p.sees[name]
	a.mu.Lock()
	defer a.mu.Unlock()
	a.id = func(string) (string, error) {
		if id == "" {
			return "", fmt.Errorf("open: %w", os.ErrNotExist)
		}
		return id, nil
	}
	a.mark = a.id
}

func TestAllWorkersShareTheArchive(t *testing.T) {
	inParish(t, func(p *parish) {
		for _, name := range []string{"a", "b", "c"} {
			p.join(name)
			p.mount(name, "one")
		}
		pass(time.Second)
		for _, name := range []string{"a", "b"} {
			began := time.Now()
			require.NoError(t, p.sees[name].requireShared(p.t.Context(), "/archive"))
			require.Less(t, time.Since(began), archiveAnswerFor/2)
		}

		p.mount("b", "two")
		p.mount("c", "")
		err := p.sees["a"].requireShared(p.t.Context(), "/archive")
		var refused *archive.NotSharedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, []string{"worker b sees another archive there", "worker c sees no archive there"}, refused.Workers)
		require.ErrorContains(t, err, "archive.dir /archive is not a directory that all workers share")
		require.NoError(t, p.sees["a"].forgotten())

		p.mount("b", "one")
		p.mount("c", "one")
		require.NoError(t, p.sees["a"].requireShared(p.t.Context(), "/archive"), "what was seen before counts no more")
	})
}

// forgotten is an error while a question, or an answer to one, is kept.
func (a *archives) forgotten() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.asking) > 0 {
		return errors.New("a question is kept")
	}
	return nil
}

func TestAWorkerAloneSharesItsArchive(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a")
		p.mount("a", "one")
		require.NoError(t, p.sees["a"].requireShared(p.t.Context(), "/archive"))
	})
}

// A file system that hangs keeps a worker from answering, not from beating.
func TestAWorkerWhoseArchiveHangs(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a")
		p.join("b", hold("orders", 0))
		p.mount("a", "one")
		hangs := make(chan struct{})
		b := p.sees["b"]
		b.mu.Lock()
		b.id = func(string) (string, error) {
			<-hangs
			return "one", nil
		}
		b.mu.Unlock()
		pass(time.Second)
		err := p.sees["a"].requireShared(p.t.Context(), "/archive")
		require.ErrorContains(t, err, "worker b has not answered for 10s")
		require.Empty(t, p.told(), "it is not taken for gone")
		close(hangs)
		pass(2 * time.Second)
		require.Empty(t, b.sights, "nobody asks any more")
	})
}

// Without Redis nobody knows who else there is.
func TestWithoutRedisNothingIsShared(t *testing.T) {
	inParish(t, func(p *parish) {
		p.join("a")
		p.mount("a", "one")
		p.redis(true)
		pass(time.Second)
		require.ErrorContains(t, p.sees["a"].requireShared(p.t.Context(), "/archive"), "Redis has not answered for 10s")
		ctx, cancel := context.WithCancelCause(p.t.Context())
		cancel(errAway)
		require.ErrorIs(t, p.sees["a"].requireShared(ctx, "/archive"), errAway)
	})
}
