package observability

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"

	"millrace/internal/contract"
	"millrace/pipeline/report"
	"millrace/pipeline/source"
	"millrace/tests/long"
	"millrace/tests/rig"
)

// within is how long after a fault its alert fires at the latest, with the deployed intervals.
const within = time.Minute

// minutes counts events by key in windows of a minute; its events are of the past, so that a window is due as soon as it is passed.
const minutes = `
name: faults
source: {topics: [faults], format: json}
event:
  key: [k]
  time: {field: t, unit: ms}
aggregates:
  n: {func: count}
windows:
  - {name: minute, size: 1m}
watermark: {out_of_orderness: 0s}
allowed_lateness: 1m
results: {kafka: {topic: faults.results}}
late:    {kafka: {topic: faults.late}}
lane: {commit_interval: 200ms, overflow: journal, chunk_fields: 50}
`

// noon is when the events begin, in ms.
const noon = int64(1_699_963_200_000)

// fault is something that an operator has to be told of.
type fault struct {
	name   string
	alert  string
	worker []string
	bring  func(*run) time.Time // returns when the fault began
	leave  func(*run)           // nil where the way out takes minutes
}

var faults = []fault{
	{
		name: "a parked lane", alert: "MillraceLaneParked",
		bring: func(r *run) time.Time {
			r.Must("pause", r.Spec.Name)
			r.seconds(180, 181) // the lane has asked for these already
			r.seconds(181, 360)
			m, found := r.Meta(1)
			require.True(r.t, found)
			admin, err := sarama.NewClusterAdmin(r.Kafka.Brokers, sarama.NewConfig())
			require.NoError(r.t, err)
			defer admin.Close()
			require.NoError(r.t, admin.DeleteRecords(r.Topic(), map[int32]int64{1: m.Offset + 50}))
			began := time.Now() // a lane that is paused looks for nothing
			r.Must("resume", r.Spec.Name)
			return began
		},
		leave: func(r *run) { r.decide(report.ChoiceSkip) },
	},
	{
		name: "a stuck close", alert: "MillraceClosingBlocked",
		bring: func(r *run) time.Time {
			r.Must("stop", r.Spec.Name) // a producer asks once what its topic takes, and so does a start
			r.Start()
			require.NoError(r.t, r.Cluster.SetTopic(context.Background(), r.Spec.Results.Kafka.Topic, source.SettingMaxMessageBytes, "1000"))
			began := time.Now()
			r.Send(0, fmt.Appendf(nil, `{"k":"%s","t":%d}`, strings.Repeat("k", 800), noon+180_000))
			r.seconds(180, 360)
			return began
		},
	},
	{
		name: "a full write-ahead log", alert: "MillraceWALFull",
		worker: []string{"--wal-soft-limit", "256KiB", "--wal-hard-limit", "256KiB"},
		bring: func(r *run) time.Time {
			began := time.Now()
			r.link.Point("")
			keys := 0
			rig.Eventually(r.t, "the log takes nothing more", rig.Patience, func() bool {
				for n := range r.Parts {
					lines := make([][]byte, 50)
					for i := range lines {
						keys++
						lines[i] = fmt.Appendf(nil, `{"k":"%s%d","t":%d}`, strings.Repeat("k", 200), keys, noon+180_000)
					}
					r.Send(n, lines...)
				}
				return r.worker.SaidOf("degradation level", "to=paused") > 0
			})
			return began
		},
		leave: func(r *run) { r.link.Point(r.redis.Addr) },
	},
}

// seconds sends an event a second of event time to every partition.
func (r *run) seconds(from, to int64) {
	r.t.Helper()
	lines := make([][]byte, 0, to-from)
	for s := from; s < to; s++ {
		lines = append(lines, fmt.Appendf(nil, `{"k":"k%d","t":%d}`, s%7, noon+s*1000))
	}
	for n := range r.Parts {
		r.Send(n, lines...)
	}
}

// decide answers every recovery that asks.
func (r *run) decide(choice string) {
	r.t.Helper()
	rig.Eventually(r.t, "every incident is decided: "+choice, rig.Patience, func() bool {
		var all []struct {
			ID     string                 `json:"workflow_id"`
			Open   bool                   `json:"open"`
			Status contract.RecoverStatus `json:"status"`
		}
		require.NoError(r.t, json.Unmarshal([]byte(r.Must("recover", "ls", r.Spec.Name, "--json").Out), &all))
		for _, one := range all {
			if one.Open && one.Status.State == contract.StateDeciding {
				return r.CLI("recover", "decide", one.ID, "--all", choice).Code == 0
			}
		}
		return false
	})
}

// firing are the alerts that fire now, by name.
func (r *run) firing() map[string]alert {
	r.t.Helper()
	found := make(map[string]alert)
	for _, a := range r.prometheus.alerts() {
		if a.State == "firing" {
			found[a.Labels["alertname"]] = a
		}
	}
	return found
}

// A Prometheus with the deployed intervals and rules scrapes a worker on which a fault comes about.
func TestAlertsFireLive(t *testing.T) {
	if !long.Wanted {
		t.Skip("four minutes; make observability")
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			r := newRun(t, setup{spec: minutes, args: f.worker})
			r.seconds(0, 180)
			r.Reach(180 * partitions)
			r.sees(`millrace_ready == 1 and on () sum(millrace_lane_offset) >= 180`)
			require.Empty(t, r.firing(), "nothing is wrong yet")

			began := f.bring(r)
			var fired alert
			rig.Eventually(t, f.alert+" fires", within-time.Since(began), func() bool {
				var found bool
				fired, found = r.firing()[f.alert]
				return found
			})
			t.Logf("%s fired %.0f s after the fault: %s", f.alert, time.Since(began).Seconds(), fired.Annotations["description"])
			if f.leave == nil {
				return
			}
			f.leave(r)
			rig.Eventually(t, f.alert+" is over", rig.Patience, func() bool {
				_, still := r.firing()[f.alert]
				return !still
			})
		})
	}
}
