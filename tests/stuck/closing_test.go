package stuck

import (
	"context"
	"fmt"
	"strings"

	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/source"
)

// limitResults sets what the result topic takes.
func (s *scene) limitResults(bytes string) {
	s.t.Helper()
	require.NoError(s.t, s.Cluster.SetTopic(context.Background(), s.Spec.Results.Kafka.Topic, source.SettingMaxMessageBytes, bytes))
}

// closingScenarios are windows that cannot be closed.
var closingScenarios = []scenario{
	{
		name: "a row larger than its topic takes", kind: contract.ConditionClosingBlocked, quick: true,
		says: "row-too-large",
		bring: func(s *scene) {
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
