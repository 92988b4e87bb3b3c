"""One run: an engine reads a filled topic, the watcher checks what it publishes, and its processor time is taken."""

import dataclasses
import json
import pathlib
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import engines
import procs

PEERS = str(engines.OUT / "peers")
STARTED_BYTES = 1 << 20  # the broker has sent this much: the engine reads
INTERVAL = 0.05


@dataclasses.dataclass(frozen=True)
class Servers:
    kafka: str
    redis: str
    pids: dict


@dataclasses.dataclass(frozen=True)
class Settings:
    servers: Servers
    builds: dict  # directories of bin/worker and bin/millrace, by engine
    heap: str
    wait: int  # seconds until a run counts as failed


class Measurement:
    """Samples of one run: time, records read, and processor seconds of the engine and of each server."""

    def __init__(self, pid, servers):
        self.pid, self.servers, self.samples = pid, servers, []

    def take(self, records):
        cpu = {"engine": procs.cpu_seconds(self.pid)}
        cpu.update((name, procs.cpu_seconds(pid)) for name, pid in self.servers.pids.items())
        self.samples.append((time.time(), records, cpu))

    def at_records(self, records):
        """Time and processor seconds at a given number of records read, between two of the engine's own counts."""
        before = self.samples[0]
        for sample in self.samples:
            if sample[1] >= records:
                return interpolate(before, sample, records)
            if sample[1] > before[1]:
                before = sample
        return None


def interpolate(a, b, records):
    share = 0.0 if b[1] == a[1] else (records - a[1]) / (b[1] - a[1])
    cpu = {k: a[2][k] + share * (b[2][k] - a[2][k]) for k in a[2]}
    return a[0] + share * (b[0] - a[0]), cpu


def between(start, end):
    """Seconds and processor seconds from one (time, cpu) to another."""
    return {"seconds": round(end[0] - start[0], 3), **{f"{k}_cpu": round(end[1][k] - start[1][k], 3) for k in start[1]}}


class Run:
    """The names and processes of one run. close() ends the processes and deletes what the run has left."""

    def __init__(self, settings, engine, workload_name, workload, topic, work):
        self.settings, self.engine, self.workload = settings, engine, workload
        self.topic, self.name = topic, f"{topic}-{engine.name}-{time.time_ns() // 1_000_000 % 10**9}"
        self.result = self.name + "-out"
        self.directory = pathlib.Path(work) / self.name
        self.workload_flags = ["--workloads", str(engines.ROOT / "bench/peers/workloads.json"), "--workload", workload_name]
        self.processes, self.log = [], None
        # Of Millrace alone: the thread that starts its pipeline, the process that it waits for, the end of both.
        self.starter, self.starting, self.closing = None, None, threading.Event()

    def spawn(self, command, **options):
        """Starts a process in a session of its own: a Ctrl-C reaches this program alone, which ends the others in order."""
        p = subprocess.Popen(command, cwd=engines.ROOT, start_new_session=True, stderr=self.log, **options)
        self.processes.append(p)
        return p

    def measure(self):
        self.directory.mkdir(parents=True)
        self.log = open(self.directory / "log", "w")
        subprocess.run([PEERS, "topic", "--brokers", self.settings.servers.kafka, "--topic", self.result], check=True)
        watcher = Watcher(self.spawn([PEERS, "watch", *self.workload_flags, "--brokers", self.settings.servers.kafka,
                                      "--topic", self.result, "--wait", f"{self.settings.wait}s"],
                                     stdout=subprocess.PIPE, text=True))
        watcher.expect("READY", 120)
        sent = procs.written_bytes(self.settings.servers.pids["kafka"])
        process, progress = self.start_engine()
        m, done = Measurement(process.pid, self.settings.servers), None
        rss, started = 0, False
        # The watcher gives up by itself. Until poll() says that the engine has ended, /proc has its figures.
        while done is None and process.poll() is None:
            records = min(progress(), self.workload["records"])
            m.take(records)
            rss = max(rss, procs.peak_rss_mb(process.pid))
            started = started or records > 0 or \
                procs.written_bytes(self.settings.servers.pids["kafka"]) - sent > STARTED_BYTES
            if not started:
                m.samples = m.samples[-1:]
            done = watcher.poll("DONE", INTERVAL)
        if done is None or not m.samples:
            return {"records": progress(), "complete": False, "correct": False, "verdict": None, "rss_mb": rss,
                    "error": f"the engine ended with {process.returncode}: {self.end_of_log()}"}
        return self.outcome(m, int(done), rss, json.loads(watcher.expect("RESULT", 120)))

    def end_of_log(self):
        self.log.flush()
        return (self.directory / "log").read_text()[-2000:]

    def outcome(self, m, done, rss, verdict):
        """What is written down. done is when every row was right, in ms, or 0."""
        start, end = (m.samples[0][0], m.samples[0][2]), (m.samples[-1][0], m.samples[-1][2])
        complete = done > 0
        records = m.samples[-1][1]
        if complete:
            # The engine's own count may lag behind what it has published.
            records, end = self.workload["records"], (done / 1000, end[1])
        correct = complete and verdict["rows"] == verdict["expected"] and not any(
            verdict[k] for k in ("wrong", "missing", "strange"))
        out = {"records": records, "complete": complete, "correct": correct, "verdict": verdict, "rss_mb": rss,
               "startup_cpu": round(start[1]["engine"], 2), "whole": between(start, end)}
        half = m.at_records(self.workload["records"] // 2)
        read = m.at_records(self.workload["records"])
        if half and complete:
            out["second_half"] = between(half, end)
        if read:
            out["read_seconds"] = round(read[0] - start[0], 3)
        if not correct:
            out["error"] = self.end_of_log()
        return out

    def start_engine(self):
        """Starts the engine and returns its process and a function that says how many records it has read."""
        s = self.settings
        if self.engine.kind == "millrace":
            return self.start_millrace()
        if self.engine.kind == "java":
            command = engines.java_command(self.engine, self.workload, s.servers, self, s.heap)
        else:
            command = engines.hand_command(self.engine, s.servers, self, self.workload_flags)
        process = self.spawn(command, stdout=subprocess.PIPE, text=True)
        return process, Progress(process.stdout, self.log)

    def start_millrace(self):
        build = pathlib.Path(self.settings.builds[self.engine.name])
        (self.directory / "spec.yaml").write_text(engines.millrace_spec(self.workload, self))
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{s.getsockname()[1]}"
        process = self.spawn([str(build / "bin/worker"), "--name", self.name, "--metrics", address], stdout=self.log)
        await_ready(f"http://{address}/readyz", process)
        self.starter = threading.Thread(target=self.start_pipeline, args=(str(build / "bin/millrace"),))
        self.starter.start()
        return process, Scraper(f"http://{address}/metrics", self.name, process)

    def start_pipeline(self, millrace):
        """Starts the pipeline, again while Temporal does not know the worker yet: on a busy machine it gets ready before."""
        command = [millrace, "start", str(self.directory / "spec.yaml")]
        for _ in range(50):
            self.starting = self.spawn(command, stdout=self.log)
            if self.starting.wait() == 0 or "no worker polls" not in self.end_of_log() or self.closing.wait(0.2):
                return

    def close(self):
        """Ends the run. A second Ctrl-C does not come between: what is left behind would disturb the next run."""
        handlers = {s: signal.signal(s, signal.SIG_IGN) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.closing.set()
            if self.starter:
                if self.starting:
                    end_process(self.starting)
                self.starter.join()
                self.remove_pipeline()
            for p in reversed(self.processes):
                end_process(p)
            if self.log:
                self.log.close()
            clean(self.settings.servers, self.name)
            shutil.rmtree(self.directory, ignore_errors=True)
        finally:
            for s, handler in handlers.items():
                signal.signal(s, handler)

    def remove_pipeline(self):
        millrace = str(pathlib.Path(self.settings.builds[self.engine.name]) / "bin/millrace")
        for command in (["stop", self.name, "--wait", "30s"], ["rm", self.name, "--topics", "--grace", "1s", "--yes"]):
            try:
                subprocess.run([millrace, *command], stdout=self.log, stderr=self.log, timeout=60, check=True)
            except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as e:
                print(f"peers: millrace {command[0]} {self.name}: {e}", flush=True)


def clean(servers, prefix):
    command = [PEERS, "clean", "--brokers", servers.kafka, "--redis", servers.redis, "--prefix", prefix]
    if subprocess.run(command, start_new_session=True, check=False).returncode:
        print(f"peers: something of {prefix} was left behind; try again: {' '.join(command)}", flush=True)


def end_process(p):
    if p.poll() is None:
        p.terminate()
        try:
            p.wait(15)
        except subprocess.TimeoutExpired:
            p.kill()
    p.wait()


def await_ready(url, process):
    deadline = time.time() + 30
    while time.time() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the worker did not get ready: {url}")


class Watcher:
    """The lines that `peers watch` prints: a word, and mostly a value."""

    def __init__(self, process):
        self.process, self.lines = process, queue.Queue()
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.process.stdout:
            self.lines.put(line.strip().partition(" "))
        self.lines.put(("END", "", ""))

    def poll(self, word, seconds):
        """Returns the value behind the word, or None when nothing came in time."""
        try:
            got, _, value = self.lines.get(timeout=seconds)
        except queue.Empty:
            return None
        if got != word:
            raise RuntimeError(f"the watcher said {got} instead of {word}")
        return value

    def expect(self, word, seconds):
        value = self.poll(word, seconds)
        if value is None:
            raise RuntimeError(f"the watcher did not say {word} within {seconds} s")
        return value


class Progress:
    """The count that a peer prints; everything else it prints goes to the log."""

    def __init__(self, lines, log):
        self.records = 0
        threading.Thread(target=self.follow, args=(lines, log), daemon=True).start()

    def follow(self, lines, log):
        for line in lines:
            if line.startswith("P "):
                self.records = int(line.split()[1])
            elif not log.closed:
                log.write(line)

    def __call__(self):
        return self.records


class Scraper:
    """The count of a worker's metrics. Its lanes tell it once a second."""

    def __init__(self, url, pipeline, process):
        self.url, self.label, self.process, self.records = url, f'pipeline="{pipeline}"', process, 0
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        while self.process.returncode is None:
            try:
                text = urllib.request.urlopen(self.url, timeout=2).read().decode()
            except OSError:
                text = ""  # busy, or about to end
            self.records = max(self.records, int(sum(
                float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                if line.startswith("millrace_lane_records_total{") and self.label in line)))
            time.sleep(0.1)

    def __call__(self):
        return self.records
