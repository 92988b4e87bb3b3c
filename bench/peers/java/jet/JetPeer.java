import com.hazelcast.config.Config;
import com.hazelcast.core.Hazelcast;
import com.hazelcast.core.HazelcastInstance;
import com.hazelcast.jet.Util;
import com.hazelcast.jet.aggregate.AggregateOperation;
import com.hazelcast.jet.aggregate.AggregateOperation1;
import com.hazelcast.jet.config.JobConfig;
import com.hazelcast.jet.config.ProcessingGuarantee;
import com.hazelcast.jet.datamodel.KeyedWindowResult;
import com.hazelcast.jet.kafka.KafkaSinks;
import com.hazelcast.jet.kafka.KafkaSources;
import com.hazelcast.jet.pipeline.Pipeline;
import com.hazelcast.jet.pipeline.StreamStage;
import com.hazelcast.jet.pipeline.WindowDefinition;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Count, sum, min and max per key and window in a member within the process. */
public class JetPeer {
  /** Only local edges carry events, so they need no serializer. */
  static class Event {
    final long at, value;
    final String key;

    Event(long at, String key, long value) {
      this.at = at;
      this.key = key;
      this.value = value;
    }
  }

  /** Accumulator: count, sum, min, max. */
  static AggregateOperation1<Event, long[], long[]> fold() {
    return AggregateOperation.withCreate(() -> new long[] {0, 0, Long.MAX_VALUE, Long.MIN_VALUE})
        .<Event>andAccumulate((a, e) -> {
          a[0]++;
          a[1] += e.value;
          a[2] = Math.min(a[2], e.value);
          a[3] = Math.max(a[3], e.value);
        })
        .andCombine((a, b) -> {
          a[0] += b[0];
          a[1] += b[1];
          a[2] = Math.min(a[2], b[2]);
          a[3] = Math.max(a[3], b[3]);
        })
        .andExportFinish(a -> a.clone());
  }

  static Map.Entry<String, String> row(KeyedWindowResult<String, long[]> r) {
    long[] a = r.result();
    return Util.entry(r.key(), Peer.row(r.start(), r.key(), a[0], a[1], a[2], a[3]));
  }

  static Config settings(Map<String, String> a) {
    Config c = new Config();
    c.setClusterName(a.get("group"));
    c.setProperty("hazelcast.logging.type", "none");
    c.setProperty("hazelcast.phone.home.enabled", "false");
    c.setProperty("hazelcast.socket.bind.any", "false");
    c.getNetworkConfig().setPublicAddress("127.0.0.1");
    c.getNetworkConfig().getInterfaces().setEnabled(true).addInterface("127.0.0.1");
    c.getNetworkConfig().getJoin().getAutoDetectionConfig().setEnabled(false);
    c.getNetworkConfig().getJoin().getMulticastConfig().setEnabled(false);
    c.getJetConfig().setEnabled(true).setCooperativeThreadCount(Integer.parseInt(a.get("threads"))).setBackupCount(0);
    return c;
  }

  static Pipeline pipeline(Map<String, String> a) {
    int threads = Integer.parseInt(a.get("threads"));
    String result = a.get("result");
    Properties consumer = Peer.consumer();
    consumer.put("bootstrap.servers", a.get("brokers"));
    consumer.put("group.id", a.get("group"));
    consumer.put("key.deserializer", ByteArrayDeserializer.class.getName());
    consumer.put("value.deserializer", ByteArrayDeserializer.class.getName());
    Properties producer = Peer.producer();
    producer.put("bootstrap.servers", a.get("brokers"));
    producer.put("key.serializer", StringSerializer.class.getName());
    producer.put("value.serializer", StringSerializer.class.getName());

    Pipeline p = Pipeline.create();
    StreamStage<Event> events = p
        .readFrom(KafkaSources.<byte[], byte[], Event>kafka(consumer, r -> Peer.parse(r.value(), Event::new), a.get("topic")))
        .withTimestamps(e -> e.at, Long.parseLong(a.get("disorder"))).setLocalParallelism(threads);
    if (a.get("stages").equals("1")) {
      // Events that are spread by their key already are aggregated in one stage.
      events = events.rebalance(e -> e.key);
    }
    events.groupingKey(e -> e.key)
        .window(WindowDefinition.tumbling(Long.parseLong(a.get("size"))))
        .aggregate(fold()).setLocalParallelism(threads)
        .map(JetPeer::row).setLocalParallelism(threads)
        .writeTo(KafkaSinks.<Map.Entry<String, String>>kafka(producer)
            .toRecordFn(r -> new ProducerRecord<>(result, r.getKey(), r.getValue()))
            .exactlyOnce(false).build())
        .setLocalParallelism(1);
    return p;
  }

  public static void main(String[] args) {
    Map<String, String> a = Peer.arguments(args);
    HazelcastInstance member = Hazelcast.newHazelcastInstance(settings(a));
    Peer.reportProgress();
    member.getJet().newJob(pipeline(a), new JobConfig().setName("peer")
        .setProcessingGuarantee(ProcessingGuarantee.AT_LEAST_ONCE)
        .setSnapshotIntervalMillis(Long.parseLong(a.get("commit")))).join();
  }
}
