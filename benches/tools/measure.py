"""Runs a command and measures it: wall time, processor time, memory, what the rest of the machine did."""

import dataclasses
import os
import pwd
import statistics
import subprocess
import sys
import threading
import time

TICKS = os.sysconf("SC_CLK_TCK")
SPAWN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "spawn.py")
LONGEST = 900
"""Seconds. Nothing here takes that long, unless it waits for something that does not come."""


@dataclasses.dataclass
class Measured:
    wall: float
    """Seconds."""
    cpu: float
    """User and system seconds of the command and everything it waited for."""
    peak: float
    """MiB: the largest sum over the command's process tree, of memory counted once (PSS)."""
    other: float
    """Processor seconds that everything else used meanwhile: servers, and noise."""


def median(runs):
    return Measured(*(statistics.median(getattr(run, field.name) for run in runs)
                      for field in dataclasses.fields(Measured)))


def run(command, user, env, log):
    """Measures one run, its memory too. A command that fails ends the row: there is nothing to compare."""
    with open(log, "wb") as output:
        busy = machine_seconds()
        begin = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd="/",
                                   stdin=subprocess.DEVNULL, env=env, **as_user(user))
        sampler = Sampler(process.pid)
        watchdog = threading.Timer(LONGEST, process.kill)
        watchdog.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - begin
        except BaseException:
            process.kill()
            raise
        finally:
            # Also when interrupted: both would keep this process alive.
            watchdog.cancel()
            peak = sampler.stop()
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise failure(command, log)
    cpu = usage.ru_utime + usage.ru_stime
    return Measured(wall, cpu, peak, max(0.0, machine_seconds() - busy - cpu))


def run_short(command, user, env, log):
    """The same for a command of milliseconds, which samples would miss."""
    entry = as_user(user)
    launch = [sys.executable, "-I", "-S", SPAWN, log, str(entry.get("user", -1)),
              str(entry.get("group", -1)), *command]
    busy = machine_seconds()
    done = subprocess.run(launch, cwd="/", env=env, stdin=subprocess.DEVNULL, text=True,
                          stdout=subprocess.PIPE, timeout=LONGEST)
    if done.returncode != 0:
        raise failure(command, log)
    wall, cpu, peak = map(float, done.stdout.split())
    return Measured(wall, cpu, peak, max(0.0, machine_seconds() - busy - cpu))


def failure(command, log):
    with open(log, errors="replace") as output:
        tail = "".join(output.readlines()[-25:])
    return RuntimeError(f"{' '.join(command)} failed\n{tail}")


def as_user(user):
    if not user:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def machine_seconds():
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:9]]
    idle_and_waiting = fields[3] + fields[4]
    return (sum(fields) - idle_and_waiting) / TICKS


def busy_elsewhere(seconds=1):
    """The share of the processors that is used although nothing is measured."""
    busy = machine_seconds()
    time.sleep(seconds)
    return (machine_seconds() - busy) / seconds / os.cpu_count()


class Sampler:
    """Watches the memory of a process and its descendants, every 20 ms."""

    def __init__(self, pid):
        self.pid, self.peak, self.ended = pid, 0.0, threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self):
        while not self.ended.wait(0.02):
            self.peak = max(self.peak, sum(memory(pid) for pid in tree(self.pid)) / 1024)

    def stop(self):
        self.ended.set()
        self.thread.join()
        return self.peak


def tree(root):
    pids, at = [root], 0
    while at < len(pids):
        pid = pids[at]
        at += 1
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children") as children:
                    pids += [int(child) for child in children.read().split()]
        except OSError:
            pass
    return pids


def memory(pid):
    """KiB, shared pages divided among those who share them."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as rollup:
            for line in rollup:
                if line.startswith("Pss:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0
