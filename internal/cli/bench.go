package cli

import (
	"context"
	"runtime"

	"github.com/spf13/cobra"

	"millrace/internal/connect"
	"millrace/pipeline/measure"
)

func benchCommand(sh *shell) *cobra.Command {
	var asked workload
	var name string
	load, fill := benchLoad{}, false
	var pushed pushing
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure what a whole pipeline costs, to the last row, beside bare consumption of its topic",
		Long: `Bench fills a topic and runs a whole pipeline over it: lanes, commits to Redis, and closing of windows as they become due.
The records end with one in each partition that moves the watermark past every window, and the run ends when the last row of
the last window is published. Every row is compared with the records; a wrong one is an error. Before and after, a bare sarama
consumer reads the same topic and throws everything away.

` + workloadsHelp() + `
--workload all runs them one after the other. The flags for records, keys, partitions, windows and span override a workload's values.

Servers are those that --kafka and --redis or the environment name; without any, embedded ones in a process of their own. CPU is
measured by process: this one, Redis and Kafka, or the embedded servers together. Real servers that tools/servers.sh started are
found in ` + envServersDir + ` or ` + serversDir + `; others are named by --server-pids, and must run on this machine.
What is not known is said to be so.

To measure several programs on the same records, fill a topic with --fill-only and name it with --topic: then the pipeline alone is
measured. With --spec the lanes are set as in that file; docs/tuning.md shows what that is good for. Temporal takes no part: it never
sees an event.`,
		Example: "  millrace bench\n  millrace bench --workload windows-1s --keys 10000 --json\n" +
			"  millrace bench --workload keys-1m --topic measured --fill-only\n  millrace bench --workload keys-1m --topic measured",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if fill && load.topic == "" {
				return usagef("--fill-only needs --topic")
			}
			loads, err := benchLoads(name, load, func(w *workload) { w.override(&asked, cmd.Flags()) })
			if err != nil {
				return err
			}
			if pushed.metrics != nil {
				pushed.records = 0
				for i := range loads {
					loads[i].measure = pushed.measure
					pushed.records += loads[i].records
				}
				pushed.metrics.ObserveMeasures(pushed.measure)
			}
			if fill {
				return fillOnly(cmd.Context(), sh, &loads[0])
			}
			return benchAll(cmd.Context(), sh, loads)
		},
	}
	cmd.Flags().StringVar(&name, "workload", workloadDefault, "records and windows by name, or "+workloadAll)
	asked.addTo(cmd.Flags())
	cmd.Flags().StringVar(&load.topic, "topic", "", "read this topic, filled before; it is left as it is")
	cmd.Flags().BoolVar(&fill, "fill-only", false, "create and fill the topic of --topic and measure nothing")
	cmd.Flags().StringToIntVar(&load.pids, "server-pids", nil, "processes of the servers, redis=PID,kafka=PID")
	cmd.Flags().StringVar(&load.lane, "spec", "", "take the lane section, such as fetch_bytes and commit_interval, from this spec file")
	cmd.Flags().StringVar(&load.profile, "cpuprofile", "", "write a CPU profile of the pipeline's run to this file")
	pushed.addTo(sh, cmd)
	cmd.AddCommand(benchServersCommand(sh))
	return cmd
}

// benchLoad is a workload and how it is measured.
type benchLoad struct {
	workload
	topic   string // filled before; "" for one of the run's own
	profile string
	measure *measure.Process // nil: nothing is measured but what bench prints
	lane    string           // spec file whose lane section is measured; "" for the defaults
	pids    map[string]int   // of real servers, as named
	cpu     cpuMeter
}

// benchLoads returns the workload of that name, or all of them, each to be measured as load says.
func benchLoads(name string, load benchLoad, override func(*workload)) ([]benchLoad, error) {
	chosen := workloads
	if name != workloadAll {
		one, err := workloadNamed(name)
		if err != nil {
			return nil, err
		}
		chosen = []workload{one}
	} else if load.topic != "" || load.profile != "" {
		return nil, usagef("--topic and --cpuprofile are for one workload; name it with --workload")
	}
	loads := make([]benchLoad, len(chosen))
	for i := range chosen {
		loads[i] = load
		loads[i].workload = chosen[i]
		override(&loads[i].workload)
		if err := loads[i].validate(); err != nil {
			return nil, err
		}
	}
	return loads, nil
}

// benchAll measures one workload after the other. With --json several are a list.
func benchAll(ctx context.Context, sh *shell, loads []benchLoad) error {
	list := jsonArray{w: sh.out}
	for i := range loads {
		m, err := bench(ctx, sh, loads[i])
		switch {
		case err != nil:
		case !sh.json:
			err = m.draw(sh.out)
		case len(loads) == 1:
			err = printJSON(sh.out, m)
		default:
			err = list.add(m)
		}
		if err != nil {
			return err
		}
	}
	if sh.json && len(loads) > 1 {
		return list.end()
	}
	return nil
}

func bench(ctx context.Context, sh *shell, load benchLoad) (m measured, err error) {
	m = newMeasured(&load.workload, load.topic)
	m.Servers, m.CPUs, m.Go = "real", runtime.GOMAXPROCS(0), runtime.Version()
	conn := *sh.conn
	if len(conn.Kafka.Addrs) == 0 && len(conn.Redis.Addrs) == 0 {
		if load.topic != "" || load.pids != nil {
			return m, usagef("--topic and --server-pids are about real servers; name them with --kafka and --redis")
		}
		m.Servers = "embedded"
		child, err := startBenchServers(ctx, sh.err)
		if err != nil {
			return m, err
		}
		defer child.stop()
		conn = connect.Options{
			Kafka: connect.KafkaOptions{Addrs: []string{child.Kafka}}, Redis: connect.RedisOptions{Addrs: []string{child.Redis}},
		}
		load.cpu.pids = map[string]int{partServers: child.cmd.Process.Pid}
	} else if load.cpu.pids, err = serverPids(load.pids, &conn); err != nil {
		return m, err
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
