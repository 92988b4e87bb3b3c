package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"millrace/internal/connect"
	"millrace/pipeline/measure"
)

func benchCommand(sh *shell) *cobra.Command {
	load := benchLoad{}
	var pushed pushing
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure bare consumption of a topic against the whole pipeline on the same topic",
		Long: `Bench fills a topic, reads it with a bare sarama consumer that throws everything away, and runs a whole pipeline
over it: lanes, commits to Redis and closing of windows as they become due. Both are measured in one run.

Servers are those that --kafka and --redis or the environment name; without any, embedded ones in a process of their own,
so that the CPU time measured is the pipeline's. With --spec the lanes are set as in that file; docs/tuning.md shows what that is
good for. Temporal takes no part: it never sees an event.`,
		Example: "  millrace bench\n  millrace bench --records 10000000 --json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load.validate(); err != nil {
				return err
			}
			load.measure = pushed.measure
			if pushed.metrics != nil {
				pushed.records = load.records
				pushed.metrics.ObserveMeasures(pushed.measure)
			}
			m, err := bench(cmd.Context(), sh, load)
			if err != nil {
				return err
			}
			if sh.json {
				return printJSON(sh.out, m)
			}
			return m.draw(sh.out)
		},
	}
	cmd.Flags().Int64Var(&load.records, "records", 6_000_000, "records to produce and read")
	cmd.Flags().Int64Var(&load.keys, "keys", 100_000, "distinct keys")
	cmd.Flags().Int32Var(&load.partitions, "partitions", 4, "partitions of the topic")
	cmd.Flags().StringVar(&load.lane, "spec", "", "take the lane section, such as fetch_bytes and commit_interval, from this spec file")
	cmd.Flags().StringVar(&load.profile, "cpuprofile", "", "write a CPU profile of the pipeline's run to this file")
	pushed.addTo(sh, cmd)
	cmd.AddCommand(benchServersCommand(sh))
	return cmd
}

type benchLoad struct {
	records, keys int64
	partitions    int32
	profile       string
	measure       *measure.Process // nil: nothing is measured but what bench prints
	lane          string           // spec file whose lane section is measured; "" for the defaults
}

func (l benchLoad) validate() error {
	switch {
	case l.records < 1000:
		return usagef("--records is %d; want at least 1000", l.records)
	case l.keys < 1:
		return usagef("--keys is %d; want at least 1", l.keys)
	case l.partitions < 1:
		return usagef("--partitions is %d; want at least 1", l.partitions)
	}
	return nil
}

// measured is the result of a benchmark. CPU is user and system time of this process.
type measured struct {
	Servers    string `json:"servers"` // embedded or real
	Records    int64  `json:"records"`
	Keys       int64  `json:"keys"`
	Partitions int32  `json:"partitions"`
	CPUs       int    `json:"cpus"`
	Go         string `json:"go"`

	BarePerSecond     float64 `json:"bare_events_per_second"`
	PipelinePerSecond float64 `json:"pipeline_events_per_second"`
	Ratio             float64 `json:"ratio"`
	CPUPerEvent       float64 `json:"cpu_ns_per_event"`
	BareCPUPerEvent   float64 `json:"bare_cpu_ns_per_event"`
	AllocsPerEvent    float64 `json:"allocs_per_event"` // in the lane: decode, fold and snapshot
	LaneNsPerEvent    float64 `json:"lane_ns_per_event"`
	FieldsPerSecond   float64 `json:"redis_fields_per_second"`
	FieldsPerEvent    float64 `json:"redis_fields_per_event"`
	LongestCommitGap  float64 `json:"longest_commit_gap_ms"`
	Windows           int     `json:"windows_closed"`
	Rows              int64   `json:"rows_published"`
}

func bench(ctx context.Context, sh *shell, load benchLoad) (m measured, err error) {
	m = measured{
		Servers: "real", Records: load.records, Keys: load.keys, Partitions: load.partitions,
		CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version(),
	}
	conn := *sh.conn
	if len(conn.Kafka.Addrs) == 0 && len(conn.Redis.Addrs) == 0 {
		m.Servers = "embedded"
		child, err := startBenchServers(ctx, sh.err)
		if err != nil {
			return m, err
		}
		defer child.stop()
		conn = connect.Options{Kafka: connect.KafkaOptions{Addrs: []string{child.Kafka}}, Redis: connect.RedisOptions{Addrs: []string{child.Redis}}}
	}
	local := *sh
	local.conn = &conn
	srv, err := local.connectData(ctx)
	if err != nil {
		return m, err
	}
	defer srv.Close()
	run, err := newBenchRun(ctx, sh.err, srv, load)
	if err != nil {
		return m, err
	}
	defer run.cleanUp()
	return m, run.measure(ctx, &m)
}

func (m *measured) draw(w io.Writer) error {
	_, err := fmt.Fprintf(w, `%d records, %d keys, %d partitions, %s servers, %d CPUs, %s
bare sarama consumption   %8s events/s   %6.0f ns CPU per event
whole pipeline            %8s events/s   %6.0f ns CPU per event
ratio                     %8.2f
lane                      %8.4f allocations per event, %.0f ns per event
Redis                     %8s fields/s, %.3f per event, longest gap between commits %.0f ms
closed meanwhile          %8d windows, %d rows
`, m.Records, m.Keys, m.Partitions, m.Servers, m.CPUs, m.Go,
		short(m.BarePerSecond), m.BareCPUPerEvent, short(m.PipelinePerSecond), m.CPUPerEvent, m.Ratio,
		m.AllocsPerEvent, m.LaneNsPerEvent, short(m.FieldsPerSecond), m.FieldsPerEvent, m.LongestCommitGap, m.Windows, m.Rows)
	return err
}
