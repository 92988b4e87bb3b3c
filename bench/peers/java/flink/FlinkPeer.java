import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.AggregateFunction;
import org.apache.flink.api.common.serialization.AbstractDeserializationSchema;
import org.apache.flink.api.common.serialization.SerializationSchema;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.sink.KafkaSinkBuilder;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.util.Collector;

/** Count, sum, min and max per key and window in a cluster within the process, its state on the heap. */
public class FlinkPeer {
  /** Key, time in ms, value. */
  public static class Parse extends AbstractDeserializationSchema<Tuple3<String, Long, Long>> {
    public Parse() {
      super(new TypeHint<Tuple3<String, Long, Long>>() {});
    }

    @Override
    public Tuple3<String, Long, Long> deserialize(byte[] b) throws IOException {
      return Peer.parse(b, (at, key, value) -> Tuple3.of(key, at, value));
    }
  }

  /** Accumulator: count, sum, min, max. */
  public static class Fold
      implements AggregateFunction<Tuple3<String, Long, Long>, Tuple4<Long, Long, Long, Long>, Tuple4<Long, Long, Long, Long>> {
    @Override
    public Tuple4<Long, Long, Long, Long> createAccumulator() {
      return Tuple4.of(0L, 0L, Long.MAX_VALUE, Long.MIN_VALUE);
    }

    @Override
    public Tuple4<Long, Long, Long, Long> add(Tuple3<String, Long, Long> e, Tuple4<Long, Long, Long, Long> a) {
      a.f0++;
      a.f1 += e.f2;
      a.f2 = Math.min(a.f2, e.f2);
      a.f3 = Math.max(a.f3, e.f2);
      return a;
    }

    @Override
    public Tuple4<Long, Long, Long, Long> getResult(Tuple4<Long, Long, Long, Long> a) {
      return a;
    }

    @Override
    public Tuple4<Long, Long, Long, Long> merge(Tuple4<Long, Long, Long, Long> a, Tuple4<Long, Long, Long, Long> b) {
      return Tuple4.of(a.f0 + b.f0, a.f1 + b.f1, Math.min(a.f2, b.f2), Math.max(a.f3, b.f3));
    }
  }

  /** Makes a row of a window: its key and its text. */
  public static class Row
      extends ProcessWindowFunction<Tuple4<Long, Long, Long, Long>, Tuple2<String, String>, String, TimeWindow> {
    @Override
    public void process(String key, Context c, Iterable<Tuple4<Long, Long, Long, Long>> in, Collector<Tuple2<String, String>> out) {
      Tuple4<Long, Long, Long, Long> g = in.iterator().next();
      out.collect(Tuple2.of(key, Peer.row(c.window().getStart(), key, g.f0, g.f1, g.f2, g.f3)));
    }
  }

  /** The key of a row, or its text. */
  public static class Part implements SerializationSchema<Tuple2<String, String>> {
    private final int field;

    Part(int field) {
      this.field = field;
    }

    @Override
    public byte[] serialize(Tuple2<String, String> row) {
      return row.<String>getField(field).getBytes(StandardCharsets.UTF_8);
    }
  }

  static Configuration settings(Map<String, String> a) {
    Configuration c = new Configuration();
    c.setString("state.backend.type", "hashmap");
    c.setString("execution.checkpointing.interval", a.get("commit") + " ms");
    c.setString("execution.checkpointing.dir", "file://" + a.get("dir"));
    c.setString("pipeline.object-reuse", "true");
    c.setString("pipeline.generic-types", "false");
    c.setString("execution.buffer-timeout.interval", "100 ms");
    c.setString("taskmanager.numberOfTaskSlots", a.get("threads"));
    c.setString("taskmanager.memory.network.min", "128mb");
    c.setString("taskmanager.memory.network.max", "128mb");
    c.setString("taskmanager.memory.managed.size", "64mb");
    c.setString("rest.bind-port", "0");
    return c;
  }

  static KafkaSink<Tuple2<String, String>> sink(Map<String, String> a) {
    Properties settings = Peer.producer();
    settings.put("transaction.timeout.ms", "600000");
    KafkaSinkBuilder<Tuple2<String, String>> sink = KafkaSink.<Tuple2<String, String>>builder()
        .setBootstrapServers(a.get("brokers"))
        .setKafkaProducerConfig(settings)
        .setRecordSerializer(KafkaRecordSerializationSchema.<Tuple2<String, String>>builder().setTopic(a.get("result"))
            .setKeySerializationSchema(new Part(0)).setValueSerializationSchema(new Part(1)).build());
    if (a.get("guarantee").equals("exactly_once")) {
      return sink.setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE).setTransactionalIdPrefix(a.get("group")).build();
    }
    return sink.setDeliveryGuarantee(DeliveryGuarantee.AT_LEAST_ONCE).build();
  }

  public static void main(String[] args) throws Exception {
    Map<String, String> a = Peer.arguments(args);
    Duration size = Duration.ofMillis(Long.parseLong(a.get("size"))), slide = Duration.ofMillis(Long.parseLong(a.get("slide")));
    WindowAssigner<Object, TimeWindow> windows =
        slide.equals(size) ? TumblingEventTimeWindows.of(size) : SlidingEventTimeWindows.of(size, slide);
    WatermarkStrategy<Tuple3<String, Long, Long>> watermark = WatermarkStrategy
        .<Tuple3<String, Long, Long>>forBoundedOutOfOrderness(Duration.ofMillis(Long.parseLong(a.get("disorder"))))
        .withTimestampAssigner((e, t) -> e.f1);
    KafkaSource<Tuple3<String, Long, Long>> source = KafkaSource.<Tuple3<String, Long, Long>>builder()
        .setBootstrapServers(a.get("brokers")).setTopics(a.get("topic")).setGroupId(a.get("group"))
        .setStartingOffsets(OffsetsInitializer.earliest())
        .setProperties(Peer.consumer()).setValueOnlyDeserializer(new Parse()).build();
    TypeInformation<Tuple4<Long, Long, Long, Long>> acc = Types.TUPLE(Types.LONG, Types.LONG, Types.LONG, Types.LONG);
    TypeInformation<Tuple2<String, String>> row = Types.TUPLE(Types.STRING, Types.STRING);

    int threads = Integer.parseInt(a.get("threads"));
    StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(threads, settings(a));
    env.fromSource(source, watermark, "in")
        .keyBy(e -> e.f0, Types.STRING)
        .window(windows)
        .aggregate(new Fold(), new Row(), acc, acc, row)
        .sinkTo(sink(a));
    Peer.reportProgress();
    env.execute("peer");
  }
}
