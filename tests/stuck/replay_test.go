package stuck

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/ledger"
	"millrace/tests/rig"
)

// replayIDOf is the id of the replay that a scenario starts now: one is used once.
func (s *scene) replayIDOf() string { return fmt.Sprintf("fix-%d", s.fed) }

// minuteAt are arguments with the range of the window that begins so many seconds after noon.
func minuteAt(second int, args ...string) []string {
	from := time.UnixMilli(noon + int64(second)*1000).UTC()
	return append(args, "--from", from.Format(time.RFC3339), "--to", from.Add(time.Minute).Format(time.RFC3339))
}

// final waits until the window that begins so many seconds after noon is final.
func (s *scene) final(second int) {
	s.t.Helper()
	rig.Eventually(s.t, "the window is final", patience, func() bool {
		a := s.CLI("windows", "ls", s.Spec.Name, "--json")
		var rows []ledger.Row
		require.NoError(s.t, json.Unmarshal([]byte(a.Out), &rows), a.Err)
		return slices.ContainsFunc(rows, func(r ledger.Row) bool { return r.Final && r.Start == noon+int64(second)*1000 })
	})
}

// lateEvent sends an event of the first window, which is final.
func (s *scene) lateEvent() {
	s.t.Helper()
	s.Send(0, fmt.Appendf(nil, `{"k":"late","t":%d,"v":1}`, noon+1000))
	s.caughtUp()
}

// swap makes two keys of the latest slice of a lane change their values in Redis: no sum that anybody checks shows it, and only a
// recount finds it.
func (s *scene) swap() {
	s.t.Helper()
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: s.rdb.Addr})
	defer client.Close()
	slice := regexp.MustCompile(`:p:[0-9a-f]+:60000:(\d+):0$`)
	hash, latest := "", int64(0)
	keys, err := client.Keys(ctx, "mr:{"+s.Spec.Name+"/"+s.Topic()+"/0}:p:*").Result()
	require.NoError(s.t, err)
	for _, key := range keys {
		found := slice.FindStringSubmatch(key)
		require.NotNil(s.t, found, key)
		start, err := strconv.ParseInt(found[1], 10, 64)
		require.NoError(s.t, err)
		if start > latest {
			hash, latest = key, start
		}
	}
	rig.SwapEntries(s.t, client, hash, s.Spec.StateID(), func(keys []string) (one, two string) {
		require.Greater(s.t, len(keys), 1, "keys of the slice at %d", latest)
		return keys[0], keys[1]
	})
}

// approve publishes what the replay has found that the scenario has started last.
func (s *scene) approve() {
	s.t.Helper()
	shown := s.Must("replay", "show", s.Spec.Name, s.replayIDOf())
	_, checksum, found := strings.Cut(shown.Out, "checksum of the diff: ")
	require.True(s.t, found, shown.Out)
	checksum, _, _ = strings.Cut(checksum, "\n")
	s.Must("replay", "approve", s.Spec.Name, s.replayIDOf(), checksum)
}

// replayScenarios are replays and recounts that wait for somebody.
var replayScenarios = []scenario{
	{
		name: "a replay that differs", kind: contract.ConditionReplayAsks, quick: true,
		bring: func(s *scene) {
			s.final(0)
			s.lateEvent()
			s.Must(minuteAt(0, "replay", s.Spec.Name, "--lateness", contract.LatenessNone, "--id", s.replayIDOf())...)
		},
		leave:    func(s *scene) { s.approve() },
		commands: []try{pause("", 0), resume("", 0), scale("", 0)},
	},
	{
		name: "a recount that differs", kind: contract.ConditionRecountDiffers,
		says: "wrong: ledger, view, results",
		bring: func(s *scene) {
			s.swap()
			swapped := s.fed - 60
			s.feed(180)
			s.caughtUp()
			s.final(swapped)
			a := s.CLI(minuteAt(swapped, "recount", s.Spec.Name, "--id", s.replayIDOf())...)
			require.Equal(s.t, 4, a.Code, a.Err)
		},
		leave:    func(s *scene) { s.approve() },
		commands: []try{pause("", 0), resume("", 0), scale("", 0)},
	},
}
