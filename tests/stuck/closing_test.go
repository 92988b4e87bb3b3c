package stuck

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/source"
	"millrace/pipeline/spec"
	"millrace/tests/rig"
)

// limitResults sets what the result topic takes.
func (s *scene) limitResults(bytes string) {
	s.t.Helper()
	require.NoError(s.t, s.Cluster.SetTopic(context.Background(), s.Spec.Results.Kafka.Topic, source.SettingMaxMessageBytes, bytes))
}

// seldomIdle makes a lane that gets nothing hold the watermark for long.
func seldomIdle(s *spec.Spec) { s.Watermark.IdleTimeout = spec.Duration(time.Hour) }

// slowWay delays every piece of some 32 KiB: a view of some MiB takes a minute, and a commit is hardly late.
const slowWay = 100 * time.Millisecond

// closingScenarios are windows that cannot be closed.
var closingScenarios = []scenario{
	{
		name: "a row larger than its topic takes", kind: contract.ConditionClosingBlocked, quick: true,
		says: "row-too-large",
		bring: func(s *scene) {
			s.Must("stop", s.Spec.Name) // a producer asks once what its topic takes, and the embedded broker refuses nothing
			s.lives()
			s.limitResults("1000")
			long := fmt.Appendf(nil, `{"k":"%s","t":%d,"v":1}`, strings.Repeat("k", 800), noon+int64(s.fed)*1000)
			s.Send(0, long)
			s.feed(180)
		},
		leave: func(s *scene) { s.limitResults("1000000"); s.lives() },
		commands: []try{
			pause("", 0), resume("", 0), scale("", 0), drain("not drained|is not drained", 4), remove(stillOpen, 1), stop("", 0),
		},
	},
	{
		name: "a large window on a slow way", kind: contract.ConditionLongTransaction,
		says: "rows of revision 1 so far",
		bring: func(s *scene) {
			s.lives()
			long := make([][]byte, 12_000)
			for i := range long {
				s.keys++
				long[i] = fmt.Appendf(nil, `{"k":"%s%d","t":%d,"v":1}`, strings.Repeat("k", 800), s.keys, noon+int64(s.fed)*1000)
			}
			s.Send(0, long...)
			s.caughtUp()
			s.redis.Set(rig.Weather{Delay: slowWay})
			s.feed(180)
		},
		leave: func(s *scene) { s.redis.Set(rig.Weather{}) },
		commands: []try{
			pause("", 0), resume("", 0), scale("", 0), drain("", 0, 4), remove(stillOpen, 1), stop("", 0),
		},
	},
	{
		name: "a record from the future", kind: contract.ConditionWatermarkAhead,
		setup: setup{change: func(s *spec.Spec) { s.Event.MaxFuture = spec.Duration(9 * 365 * 24 * time.Hour) }},
		says:  "ahead of the clock",
		bring: func(s *scene) {
			s.Send(0, fmt.Appendf(nil, `{"k":"k","t":%d,"v":1}`, time.Now().AddDate(7, 0, 0).UnixMilli()))
		},
		leave: func(s *scene) {
			s.Must("stop", s.Spec.Name)
			m, found := s.Meta(0)
			require.True(s.t, found)
			s.Must("watermark", "reset", s.Spec.Name, "--from", fmt.Sprintf("%s/0=%d,%s/1=0", s.Topic(), m.Offset, s.Topic()), "--yes")
		},
	},
	{
		name: "a partition without events", kind: contract.ConditionWatermarkHeld,
		setup: setup{change: seldomIdle},
		bring: func(s *scene) {
			s.behind = s.fed
			rig.Eventually(s.t, "one lane has held the watermark for a minute", patience, func() bool {
				s.Send(0, events(s.fed, s.fed+30)...)
				s.fed += 30
				now, _ := s.check()
				return has(now.Conditions, contract.ConditionWatermarkHeld)
			})
		},
		leave: func(s *scene) { s.Send(1, events(s.behind, s.fed)...) },
		commands: []try{
			pause("", 0), resume("", 0), scale("", 0), drain("", 0), remove("is not running|open|removed", 0, 1),
		},
	},
	{
		name: "a partition of records that are refused", kind: contract.ConditionRefusing, idle: true, quick: true,
		bring: func(s *scene) {
			s.lives()
			s.Send(0, events(0, 180)...)
			garbage := make([][]byte, 2_000)
			for i := range garbage {
				garbage[i] = []byte("heartbeat")
			}
			s.Send(1, garbage...)
		},
		leave: func(s *scene) { s.feed(180) },
	},
}
