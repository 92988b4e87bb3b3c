package engine

import (
	"log/slog"
	"sync"
	"time"
)

// troubleAge is how long after its last error a part of Kafka counts as in trouble when nobody says that it is over.
const troubleAge = 30 * time.Second

// trouble keeps what a part of the source says of its errors: every try fails anew, so it logs only what is new. Safe for
// concurrent use.
type trouble struct {
	log  *slog.Logger
	part string

	mu   sync.Mutex
	text string
	at   time.Time
}

// note takes one error, or nil when all is well again. It does not block.
func (t *trouble) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil && t.text != "":
		t.text = ""
		t.log.Info("Kafka answers again", "part", t.part)
	case err != nil:
		if text := err.Error(); text != t.text || time.Since(t.at) > troubleAge {
			t.text = text
			t.log.Warn("trouble with Kafka, trying again", "part", t.part, "error", err)
		}
		t.at = time.Now()
	}
}

// current is the trouble of now, "" when there is none.
func (t *trouble) current() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) > troubleAge {
		return ""
	}
	return t.text
}
