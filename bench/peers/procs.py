"""Processor time, memory and bytes of processes, read from /proc."""

import os
import pathlib

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    """User and system time of the process with all its threads, without its children."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_rss_mb(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    return 0


def written_bytes(pid):
    """Bytes given to write(2) and sendfile(2); of a broker nearly all of them are what it sends."""
    for line in pathlib.Path(f"/proc/{pid}/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    return 0


def server_pids(state):
    """The processes that tools/servers.sh has started, by the names it gives them."""
    return {name: int((pathlib.Path(state) / name / "pid").read_text().split()[0]) for name in ("kafka", "redis", "temporal")}
