package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"millrace/pipeline/report"
)

func TestSlowSaysWhoIsWaitedFor(t *testing.T) {
	tests := []struct {
		name       string
		lag        int64
		times      report.LaneTimes
		answer, do string
	}{
		{"Redis", 1e6, report.LaneTimes{Lane: report.Times{"commit": 43, "fold": 10}, Committer: report.Times{"redis": 58}},
			"lanes wait for Redis 72 % of the time; their committers are busy with it 97 % of the time", "lane.commit_interval"},
		{"Redis refuses", 1e6, report.LaneTimes{Lane: report.Times{"commit": 50}, Committer: report.Times{"redis": 8, "pause": 50}},
			"lanes wait for Redis, which refuses commits 83 %", "millrace status orders"},
		{"the log", 1e6, report.LaneTimes{Lane: report.Times{"commit": 50}, Committer: report.Times{"journal": 50}},
			"lanes wait for the write-ahead log 83 %", "disk"},
		{"side records", 1e6, report.LaneTimes{Lane: report.Times{"commit": 50}, Committer: report.Times{"sides": 50}},
			"lanes wait for Kafka to take late and dead-letter records 83 %", "refused"},
		{"itself", 1e6, report.LaneTimes{Lane: report.Times{"decode": 25, "fold": 15, "fetch": 20}},
			"lanes work: decoding and folding 67 %", "more partitions"},
		{"nothing to read", 10, report.LaneTimes{Lane: report.Times{"fetch": 59, "fold": 1}, Reader: report.Times{"broker": 59}},
			"nothing is slow: lanes wait for new records 98 %", ""},
		{"what comes is committed a second later", 7000, report.LaneTimes{Lane: report.Times{"fetch": 55, "encode": 2}, Reader: report.Times{"broker": 59}},
			"nothing is slow: lanes wait for new records 92 %", ""},
		{"brokers", 1e6, report.LaneTimes{Lane: report.Times{"fetch": 45, "fold": 15}, Reader: report.Times{"broker": 40}},
			"lanes wait for Kafka 75 % of the time; their readers wait for brokers 67 %", "lane.fetch_bytes"},
		{"compression", 1e6, report.LaneTimes{Lane: report.Times{"fetch": 45}, Reader: report.Times{"broker": 10, "unpack": 48}},
			"their readers unpack 80 %", "compression"},
		{"fetches fail", 1e6, report.LaneTimes{Lane: report.Times{"fetch": 59}, Reader: report.Times{"broker": 1, "pause": 58}},
			"fetches fail", "millrace status orders"},
		{"memory", 1e6, report.LaneTimes{Lane: report.Times{"memory": 50, "fold": 5}}, "lanes wait at lane.memory_limit 83 %", "raise it"},
		{"operator", 1e6, report.LaneTimes{Lane: report.Times{"paused": 60}}, "lanes are paused 100 %", "millrace resume"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.times.Span = 60
			v := slowView{Pipeline: "orders", Lag: tt.lag, Rate: 10_000, Lanes: []slowLane{{Lane: "orders/0", Lag: tt.lag, Times: &tt.times}}}
			v.add(&tt.times)
			v.judge()
			require.Contains(t, v.Answer, tt.answer)
			require.Contains(t, v.Do, tt.do)
			if tt.do == "" {
				require.Empty(t, v.Do)
			}
		})
	}
	v := slowView{Pipeline: "orders"}
	v.judge()
	require.Equal(t, "no hot path has said anything", v.Answer)
}

func TestSlowTable(t *testing.T) {
	one := report.LaneTimes{Span: 60, Lane: report.Times{"fetch": 6, "decode": 12, "fold": 6, "commit": 30, "memory": 3},
		Reader: report.Times{"lane": 50, "broker": 6, "unpack": 4}, Committer: report.Times{"redis": 57, "idle": 3}}
	v := slowView{Pipeline: "orders", Lag: 7, Closing: &report.ClosingTimes{Span: 60, Closer: report.Times{"idle": 54, "merge": 6}}, ClosedAt: &noon}
	for _, lane := range []string{"orders/0", "orders/1"} {
		v.Lanes = append(v.Lanes, slowLane{lane, 7, &one})
		v.add(&one)
	}
	v.judge()
	var out bytes.Buffer
	require.NoError(t, v.draw(&out))
	lines := strings.Split(out.String(), "\n")
	require.Equal(t, "pipeline orders: lanes wait for Redis 50 % of the time; their committers are busy with it 95 % of the time", lines[0])
	require.Regexp(t, `^LANE +SPAN +FETCH +DECODE +FOLD +ENCODE +COMMIT +OTHER +READER +COMMITTER +LAG$`, lines[2])
	require.Regexp(t, `^orders/0 +60s +10 % +20 % +10 % +0 % +50 % +10 % +lane 83 %, broker 10 % +redis 95 %, idle 5 % +7$`, lines[3])
	require.Regexp(t, `^all +10 % +20 % `, lines[5])
	require.Equal(t, "closer: idle 90 %, merge 10 % of the last 60s (as of 2026-01-01T12:00:00Z)", lines[6])
}
