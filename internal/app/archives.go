package app

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"millrace/internal/contract"
	"millrace/pipeline/archive"
	"millrace/pipeline/wal"
)

// archiveAsk is a process's question to the fleet: which archive do you see in this directory? Its number tells it from
// earlier ones, so that no old answer is taken for a new one.
type archiveAsk struct {
	Dir    string `json:"dir"`
	Number string `json:"number"`
}

// archiveSight is the answer to an archiveAsk.
type archiveSight struct {
	Number string `json:"number"`
	ID     string `json:"id,omitempty"`      // of the archive that is seen there
	Reason string `json:"problem,omitempty"` // why none is
}

// archives finds out whether all processes of a fleet see the same archive in a directory: what one of them archives must
// be there for the others. Questions and answers travel in what processes say of themselves in Redis. Directories are looked
// at in goroutines of their own, because a network file system can block for as long as it likes, and beats must go on.
type archives struct {
	id   func(dir string) (string, error) // of the archive in a directory
	mark func(dir string) (string, error) // makes the directory an archive unless it is one

	mu     sync.Mutex
	asking []archiveAsk
	sights map[string]archiveSight // by number: what this process answers, without an id and a reason while it looks
	fleet  []member                // the others, as of the last beat
	beats  int                     // how many there were
}

func newArchives() *archives {
	return &archives{
		id:     func(dir string) (string, error) { return archive.NewDir(wal.OS, dir).ID() },
		mark:   func(dir string) (string, error) { return archive.NewDir(wal.OS, dir).Mark() },
		sights: make(map[string]archiveSight),
	}
}

// describe writes this process's questions and answers into what it says of itself.
func (a *archives) describe(m *member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m.Asks = slices.Clone(a.asking)
	for _, s := range a.sights {
		if s.ID != "" || s.Reason != "" {
			m.Sights = append(m.Sights, s)
		}
	}
	slices.SortFunc(m.Sights, func(x, y archiveSight) int { return strings.Compare(x.Number, y.Number) })
}

// learn takes what the others say of themselves, and looks where they ask it to.
func (a *archives) learn(others []member) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fleet = others
	a.beats++
	asked := make(map[string]bool)
	for _, m := range others {
		for _, ask := range m.Asks {
			asked[ask.Number] = true
			if _, known := a.sights[ask.Number]; !known {
				a.sights[ask.Number] = archiveSight{Number: ask.Number}
				go a.look(ask)
			}
		}
	}
	for number := range a.sights {
		if !asked[number] {
			delete(a.sights, number)
		}
	}
}

// look answers a question. It may never return, if the file system does not.
func (a *archives) look(ask archiveAsk) {
	s := archiveSight{Number: ask.Number}
	var err error
	if s.ID, err = a.id(ask.Dir); err != nil {
		s.Reason = describeNoArchive(err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, known := a.sights[ask.Number]; known {
		a.sights[ask.Number] = s
	}
}

func describeNoArchive(err error) string {
	if errors.Is(err, os.ErrNotExist) {
		return "sees no archive there"
	}
	return contract.Cut("cannot read it: " + err.Error())
}

// archiveAnswerFor is how long the fleet is given to answer: others see a question with their next beat, look, and say what
// they saw with the one after it.
const archiveAnswerFor = 10 * time.Second

// archiveBeats is how many beats after a question this process knows who is there: one may have been under way, and a process
// that has just come says so with a beat of its own.
const archiveBeats = 3

// requireShared makes the directory an archive unless it is one, and returns nil once every process of the fleet has seen that
// very archive there.
func (a *archives) requireShared(ctx context.Context, dir string) error {
	id, err := a.mark(dir)
	if err != nil {
		return err
	}
	ask := archiveAsk{Dir: dir, Number: rand.Text()}
	a.mu.Lock()
	a.asking = append(a.asking, ask)
	first := a.beats
	a.mu.Unlock()
	defer func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asking = slices.DeleteFunc(a.asking, func(o archiveAsk) bool { return o == ask })
	}()
	began, tick := time.Now(), time.NewTicker(contract.PresenceEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		beats, others, silent := a.compare(ask, id)
		complete := len(silent) == 0 && beats-first >= archiveBeats
		switch late := time.Since(began) >= archiveAnswerFor; {
		case !complete && !late:
		case len(others) > 0 || len(silent) > 0:
			return &archive.NotSharedError{Dir: dir, Workers: append(others, silent...)}
		case complete:
			return nil
		default:
			return fmt.Errorf("whether all workers share archive.dir %s is not known: Redis has not answered for %s", dir, archiveAnswerFor)
		}
	}
}

// compare lists the workers that see another archive or none, and those that have not answered, as of the last of so many beats.
func (a *archives) compare(ask archiveAsk, id string) (beats int, others, silent []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, m := range a.fleet {
		name := "worker " + cmp.Or(m.Worker, m.Queue)
		switch i := slices.IndexFunc(m.Sights, func(s archiveSight) bool { return s.Number == ask.Number }); {
		case i < 0:
			silent = append(silent, fmt.Sprintf("%s has not answered for %s", name, archiveAnswerFor))
		case m.Sights[i].Reason != "":
			others = append(others, name+" "+m.Sights[i].Reason)
		case m.Sights[i].ID != id:
			others = append(others, name+" sees another archive there")
		}
	}
	slices.Sort(others)
	slices.Sort(silent)
	return a.beats, others, silent
}
