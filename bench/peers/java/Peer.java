import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.LongAdder;

/** What the peers share, so that they differ in nothing but the engine: arguments, parsing, rows, clients' settings. */
final class Peer {
  static final LongAdder READ = new LongAdder();
  private static final JsonFactory JSON = new JsonFactory();

  /** The names of an event's fields; the unit is how many milliseconds the unit of its time has. */
  static String keyField, timeField, valueField;
  static long unit;

  /** Receives an event: its time in ms, its key and the value to aggregate. */
  interface Sink<T> {
    T event(long at, String key, long value);
  }

  private Peer() {}

  /** Reads arguments of the form name=value. The field names are kept for the whole process. */
  static Map<String, String> arguments(String[] args) {
    Map<String, String> a = new HashMap<>();
    for (String s : args) {
      int i = s.indexOf('=');
      a.put(s.substring(0, i), s.substring(i + 1));
    }
    // Jackson interns field names, so that equals() compares references.
    keyField = a.get("key").intern();
    timeField = a.get("time").intern();
    valueField = a.get("value").intern();
    unit = Long.parseLong(a.get("unit"));
    return a;
  }

  /** Parses a record with Jackson's streaming parser and counts it. */
  static <T> T parse(byte[] record, Sink<T> sink) throws IOException {
    long at = 0, value = 0;
    String key = null;
    try (JsonParser p = JSON.createParser(record)) {
      p.nextToken();
      while (p.nextToken() == JsonToken.FIELD_NAME) {
        String name = p.currentName();
        p.nextToken();
        if (name.equals(timeField)) {
          at = p.getLongValue() * unit;
        } else if (name.equals(keyField)) {
          key = p.getText();
        } else if (name.equals(valueField)) {
          value = p.getLongValue();
        } else {
          p.skipChildren();
        }
      }
    }
    READ.increment();
    return sink.event(at, key, value);
  }

  /** A result row. */
  static String row(long start, String key, long count, long sum, long min, long max) {
    return "{\"start\":" + start + ",\"" + keyField + "\":\"" + key + "\",\"count\":" + count + ",\"sum\":" + sum
        + ",\"min\":" + min + ",\"max\":" + max + "}";
  }

  /** Consumer settings: larger polls than by default. */
  static Properties consumer() {
    Properties p = new Properties();
    p.put("auto.offset.reset", "earliest");
    p.put("max.poll.records", "10000");
    p.put("max.partition.fetch.bytes", "4194304");
    return p;
  }

  /** Producer settings: larger batches than by default, lz4. */
  static Properties producer() {
    Properties p = new Properties();
    p.put("compression.type", "lz4");
    p.put("linger.ms", "100");
    p.put("batch.size", "262144");
    p.put("buffer.memory", "134217728");
    return p;
  }

  /** Prints every 100 ms how many records have been read, from a thread of its own. */
  static void reportProgress() {
    Thread t = new Thread(() -> {
      while (true) {
        try {
          Thread.sleep(100);
        } catch (InterruptedException e) {
          return;
        }
        System.out.println("P " + READ.sum());
      }
    });
    t.setDaemon(true);
    t.start();
  }
}
