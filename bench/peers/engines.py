"""The engines of the comparison: what each is called, and how its process is started."""

import dataclasses
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "bin" / "peers"
THREADS = 2
COMMIT_MS = 5000  # commit, checkpoint and snapshot interval of the peers
PACKAGES = ("java.lang", "java.util", "java.time", "java.nio", "java.util.concurrent", "sun.nio.ch")


@dataclasses.dataclass(frozen=True)
class Engine:
    name: str
    title: str
    kind: str  # millrace, java or hand
    library: str = ""
    main: str = ""
    options: tuple = ()


ENGINES = {e.name: e for e in (
    Engine("millrace", "Millrace", "millrace"),
    Engine("millrace-again", "Millrace, the same again", "millrace"),
    Engine("millrace-base", "Millrace, the build to compare with", "millrace"),
    Engine("jet", "Hazelcast Jet, two-stage", "java", "jet", "JetPeer", ("stages=2",)),
    Engine("jet-single", "Hazelcast Jet, single-stage", "java", "jet", "JetPeer", ("stages=1",)),
    Engine("flink", "Flink, at least once", "java", "flink", "FlinkPeer", ("guarantee=at_least_once",)),
    Engine("flink-eos", "Flink, exactly once", "java", "flink", "FlinkPeer", ("guarantee=exactly_once",)),
    Engine("kstreams", "Kafka Streams", "java", "kstreams", "KStreamsPeer"),
    Engine("hand-json", "Go by hand, encoding/json", "hand"),
    Engine("hand-fast", "Go by hand, jsonparser", "hand", options=("--fast",)),
)}


@dataclasses.dataclass(frozen=True)
class Fields:
    """The names of an event's fields; unit is how many milliseconds the unit of its time has."""

    key: str
    time: str
    value: str
    unit: int


def fields_of(workload):
    if "flights" in workload:
        return Fields("origin", "scheduled", "delay", 1000)
    return Fields("user", "at", "amount", 1)


def java_command(engine, workload, servers, run, heap):
    """The command of a peer on the JVM. run has the names of one run: group, topic, result and its directory."""
    f = fields_of(workload)
    lib = OUT / "lib" / engine.library
    return [
        "java", f"-Xmx{heap}", f"-Xms{heap}", "-XX:+UseParallelGC",
        *(f"--add-opens=java.base/{p}=ALL-UNNAMED" for p in PACKAGES),
        "-cp", f"{lib}/*:{OUT / 'classes' / engine.library}", engine.main,
        f"brokers={servers.kafka}", f"group={run.name}", f"topic={run.topic}", f"result={run.result}", f"dir={run.directory}",
        f"size={workload['size']}", f"slide={workload['slide']}", f"disorder={workload['disorder']}",
        f"key={f.key}", f"time={f.time}", f"value={f.value}", f"unit={f.unit}",
        f"threads={THREADS}", f"commit={COMMIT_MS}", *engine.options,
    ]


def hand_command(engine, servers, run, workload_flags):
    return [
        str(OUT / "peers"), "hand", *workload_flags, "--brokers", servers.kafka, "--redis", servers.redis,
        "--topic", run.topic, "--group", run.name, "--result", run.result, *engine.options,
    ]


def millrace_spec(workload, run):
    """The pipeline's spec, with every default left as it is."""
    f = fields_of(workload)
    slide = "" if workload["slide"] == workload["size"] else f", slide: {workload['slide']}ms"
    unit = "ms" if f.unit == 1 else "s"
    return f"""name: {run.name}
source: {{topics: [{run.topic}]}}
event: {{key: [{f.key}], time: {{field: {f.time}, unit: {unit}}}}}
aggregates:
  count: {{func: count}}
  sum:   {{func: sum, field: {f.value}, type: int}}
  min:   {{func: min, field: {f.value}, type: int}}
  max:   {{func: max, field: {f.value}, type: int}}
windows: [{{name: w, size: {workload['size']}ms{slide}}}]
watermark: {{out_of_orderness: {workload['disorder']}ms}}
results: {{kafka: {{topic: {run.result}}}}}
"""
