import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.processor.TimestampExtractor;
import org.apache.kafka.streams.state.Stores;
import org.apache.kafka.streams.state.WindowStore;

/** Count, sum, min and max per key and window: an in-memory store with a cache and a changelog, a row at every commit. */
public class KStreamsPeer {
  record Event(long at, String key, long value) {}

  static final class Agg {
    long count, sum, min = Long.MAX_VALUE, max = Long.MIN_VALUE;
  }

  static Event parse(byte[] b) {
    try {
      return Peer.parse(b, Event::new);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  static byte[] write(Agg g) {
    return g == null ? null : ByteBuffer.allocate(32).putLong(g.count).putLong(g.sum).putLong(g.min).putLong(g.max).array();
  }

  static Agg read(byte[] b) {
    if (b == null) {
      return null;
    }
    ByteBuffer x = ByteBuffer.wrap(b);
    Agg g = new Agg();
    g.count = x.getLong();
    g.sum = x.getLong();
    g.min = x.getLong();
    g.max = x.getLong();
    return g;
  }

  static Properties settings(Map<String, String> a) {
    Properties p = new Properties();
    p.put(StreamsConfig.APPLICATION_ID_CONFIG, a.get("group"));
    p.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, a.get("brokers"));
    p.put(StreamsConfig.STATE_DIR_CONFIG, a.get("dir"));
    p.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, a.get("threads"));
    p.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.AT_LEAST_ONCE);
    p.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, a.get("commit"));
    p.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, "268435456");
    p.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, "10000");
    p.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, "-1");
    Peer.consumer().forEach((k, v) -> p.put(StreamsConfig.consumerPrefix((String) k), v));
    Peer.producer().forEach((k, v) -> p.put(StreamsConfig.producerPrefix((String) k), v));
    return p;
  }

  public static void main(String[] args) throws Exception {
    Map<String, String> a = Peer.arguments(args);
    Duration size = Duration.ofMillis(Long.parseLong(a.get("size")));
    Duration grace = Duration.ofMillis(Long.parseLong(a.get("disorder")));

    Serde<Event> events = Serdes.serdeFrom(
        (t, e) -> { throw new UnsupportedOperationException("the topic is partitioned by the key: nothing is repartitioned"); },
        (t, b) -> parse(b));
    TimestampExtractor time = (r, previous) -> ((Event) r.value()).at();
    Materialized<String, Agg, WindowStore<Bytes, byte[]>> store = Materialized
        .<String, Agg>as(Stores.inMemoryWindowStore("agg", size.multipliedBy(2).plus(grace), size, false))
        .withKeySerde(Serdes.String())
        .withValueSerde(Serdes.serdeFrom((t, g) -> write(g), (t, b) -> read(b)))
        .withCachingEnabled();

    StreamsBuilder b = new StreamsBuilder();
    b.stream(a.get("topic"), Consumed.with(Serdes.String(), events).withTimestampExtractor(time))
        .groupByKey(Grouped.with(Serdes.String(), events))
        .windowedBy(TimeWindows.ofSizeAndGrace(size, grace))
        .aggregate(Agg::new, (k, e, g) -> {
          g.count++;
          g.sum += e.value();
          g.min = Math.min(g.min, e.value());
          g.max = Math.max(g.max, e.value());
          return g;
        }, store)
        .toStream()
        .map((k, g) -> KeyValue.pair(k.key(), Peer.row(k.window().start(), k.key(), g.count, g.sum, g.min, g.max)))
        .to(a.get("result"), Produced.with(Serdes.String(), Serdes.String()));

    KafkaStreams streams = new KafkaStreams(b.build(), settings(a));
    streams.setUncaughtExceptionHandler(e -> {
      e.printStackTrace();
      Runtime.getRuntime().halt(3);
      return null;
    });
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    Peer.reportProgress();
    streams.start();
    Thread.currentThread().join();
  }
}
