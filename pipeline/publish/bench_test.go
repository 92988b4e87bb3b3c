package publish_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"millrace/internal/dev"
	"millrace/pipeline/ledger"
	"millrace/pipeline/publish"
	"millrace/pipeline/source"
)

// serveKafka is set for the process that is the embedded Kafka of a benchmark, so that its
// processor time is not the producer's.
const serveKafka = "MILLRACE_BENCH_SERVE_KAFKA"

// TestServeKafka is the other process of the benchmarks: it says where its Kafka listens and serves
// until its input ends.
func TestServeKafka(t *testing.T) {
	if os.Getenv(serveKafka) == "" {
		t.Skip("runs for benchmarks only")
	}
	broker, err := dev.StartKafka(t.Context(), dev.KafkaConfig{})
	require.NoError(t, err)
	defer broker.Close()
	fmt.Println("kafka", broker.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	require.NoError(t, err)
}

// otherKafka starts an embedded Kafka in a process of its own; with MILLRACE_KAFKA_BROKERS it is a
// real one.
func otherKafka(b *testing.B) source.Config {
	b.Helper()
	if brokers := os.Getenv("MILLRACE_KAFKA_BROKERS"); brokers != "" {
		return source.Config{Brokers: strings.Split(brokers, ",")}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestServeKafka$")
	cmd.Env = append(os.Environ(), serveKafka+"=1")
	in, err := cmd.StdinPipe()
	require.NoError(b, err)
	out, err := cmd.StdoutPipe()
	require.NoError(b, err)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if addr, ok := strings.CutPrefix(lines.Text(), "kafka "); ok {
			return source.Config{Brokers: []string{addr}}
		}
	}
	b.Fatal("the embedded Kafka did not start")
	return source.Config{}
}

// cpuTime is the processor time of this process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkTransaction publishes windows of a given number of rows as a slot does, a ledger row behind them.
// One operation is one row.
func BenchmarkTransaction(b *testing.B) {
	for _, rows := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprintf("rows=%d", rows), func(b *testing.B) {
			cfg := otherKafka(b)
			cluster, err := source.NewCluster(b.Context(), cfg)
			require.NoError(b, err)
			defer cluster.Close()
			name := fmt.Sprintf("b%d", time.Now().UnixNano())
			for _, topic := range []source.TopicSpec{
				{Name: ledger.Topic(name), Compacted: true, Partitions: 2}, {Name: name + ".windows", Partitions: 6},
			} {
				_, err := cluster.EnsureTopic(b.Context(), topic)
				require.NoError(b, err)
			}
			producer, err := publish.NewClient(cfg, cluster, name).Open(b.Context(), 1)
			require.NoError(b, err)
			headers := []source.Header{{Key: "mr-window", Value: []byte("hour")}}
			b.ReportAllocs()
			began := cpuTime(b)
			b.ResetTimer()
			for left := b.N; left > 0; left -= rows {
				publishRows(b, producer, name, min(rows, left), headers)
			}
			b.StopTimer()
			b.ReportMetric(float64(cpuTime(b)-began)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			require.NoError(b, producer.Close())
		})
	}
}

// publishRows is one transaction. Keys and values are made as they are appended, as a slot makes
// them.
func publishRows(b *testing.B, p publish.Producer, name string, rows int, headers []source.Header) {
	b.Helper()
	require.NoError(b, p.Begin())
	var key, value []byte
	record := &publish.Record{Topic: name + ".windows", Headers: headers}
	for i := range rows {
		key, value = appendRow(key[:0], value[:0], i)
		record.Key, record.Value = key, value
		require.NoError(b, p.Append(b.Context(), record))
	}
	_, err := p.Flush(b.Context())
	require.NoError(b, err)
	records := []publish.Record{{Topic: ledger.Topic(name), Partition: 1, Key: []byte("row"), Value: []byte("{}")}}
	require.NoError(b, publish.Send(b.Context(), p, records))
	require.NoError(b, p.Commit())
}

// appendRow adds a key and a value such as results have.
func appendRow(key, value []byte, i int) (k, v []byte) {
	key = append(key, `{"origin":"`...)
	key = append(key, byte('A'+i%26), byte('A'+i/26%26), byte('A'+i/676%26))
	key = append(strconv.AppendInt(append(key, `","n":`...), int64(i), 10), '}')
	value = append(value, `{"pipeline":"bench","window":"hour","start":978307200000,"end":978310800000,`...)
	value = append(append(value, `"revision":1,"key":`...), key...)
	value = strconv.AppendInt(append(value, `,"values":{"n":`...), int64(i%1000), 10)
	value = strconv.AppendInt(append(value, `,"delay":`...), int64(i*7%10_000), 10)
	value = strconv.AppendInt(append(value, `,"avg":`...), int64(i%97), 10)
	value = append(value, `.5}}`...)
	return key, value
}
