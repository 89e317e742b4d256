"""What the benchmarks run against: a PostgreSQL cluster, the sink, TLS in front of it for pgBackRest."""

import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.parse
import urllib.request

from measure import as_user

HERE = os.path.dirname(os.path.abspath(__file__))
SEGMENT_BYTES = 16 << 20


def read_env(path):
    with open(path) as lines:
        return dict(line.rstrip("\n").split("=", 1) for line in lines if "=" in line)


class Bed:
    """Started by `with`; leaves nothing running. The loaded cluster is kept for the next time."""

    def __init__(self, scale):
        cache = os.environ.get("BARKEEP_CACHE") or os.path.expanduser("~/.cache/barkeep")
        self.programs = read_env(os.environ.get("BARKEEP_BED") or f"{cache}/bed.env")
        self.user = self.programs["PG_USER"]
        self.pg_bin = self.programs["PG15_BIN"]
        self.scale = scale
        self.cores = os.cpu_count()
        self.dir = f"{cache}/bench"
        self.cluster = f"{self.dir}/cluster-{scale:g}"
        self.pgdata = f"{self.cluster}/data"
        self.segments = f"{self.cluster}/segments"
        self.run = f"{self.dir}/run"
        # Short, since a socket's path is limited to 107 bytes.
        self.socket = f"/tmp/barkeep-bench-{os.getpid()}"
        # Restores are measured without the disk, where there is memory enough.
        memory = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
        roomy = memory > 4 * scale * (1 << 30)
        self.restored = f"/dev/shm/barkeep-bench-{os.getpid()}" if roomy else f"{self.run}/restored"
        self.processes = []

    def __enter__(self):
        try:
            os.makedirs(self.dir, exist_ok=True)
            shutil.rmtree(self.run, ignore_errors=True)
            for path in (self.run, self.socket, f"{self.run}/log"):
                self.make_dir(path)
            self.start_sink()
            self.load_cluster()
            self.start_cluster()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if os.path.exists(f"{self.pgdata}/postmaster.pid"):
            self.as_server([f"{self.pg_bin}/pg_ctl", "-D", self.pgdata, "-m", "immediate", "-w", "stop"])
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
            process.wait()
        for path in (self.socket, self.restored, self.run):
            shutil.rmtree(path, ignore_errors=True)

    def make_dir(self, path):
        os.makedirs(path, exist_ok=True)
        if self.user:
            shutil.chown(path, self.user)

    def as_server(self, command, **options):
        return subprocess.run(command, check=True, cwd="/", stdout=subprocess.DEVNULL,
                              **as_user(self.user), **options)

    # ---- The sink ----------------------------------------------------------------------------

    def start_sink(self):
        binary, source = f"{self.dir}/sink", f"{HERE}/sink"
        newest = max(entry.stat().st_mtime for entry in os.scandir(source))
        if not os.path.exists(binary) or os.stat(binary).st_mtime < newest:
            subprocess.run(["rustc", "-O", "--edition", "2024", "-o", binary,
                            f"{source}/sink.rs"], check=True)
        # Without these, freed parts stay with the process, and several backups fill the machine.
        env = dict(os.environ, MALLOC_MMAP_THRESHOLD_="131072", MALLOC_ARENA_MAX="2")
        sink = subprocess.Popen([binary, "127.0.0.1:0"], stdout=subprocess.PIPE, env=env, text=True)
        self.processes.append(sink)
        self.sink_address = sink.stdout.readline().strip()
        self.url = f"http://{self.sink_address}"
        for bucket in ("barman", "pgbackrest", "barkeep", "raw"):
            self.sink("PUT", bucket)

    def sink(self, method, path, body=None):
        request = urllib.request.Request(f"{self.url}/{path}", data=body, method=method)
        with urllib.request.urlopen(request) as response:
            return response.read()

    def drop(self, path):
        self.sink("POST", f"__drop/{path}", b"")

    def set_latency(self, milliseconds):
        self.sink("POST", f"__latency?ms={milliseconds}", b"")

    def requests(self):
        """Requests since the last call, by kind."""
        lines = self.sink("GET", "__stats?reset").decode().splitlines()
        return {kind: int(count) for count, kind in (line.split("\t", 1) for line in lines)}

    def keys(self, bucket, prefix):
        """Keys and sizes below a prefix."""
        found, after = [], ""
        while True:
            query = urllib.parse.urlencode({"list-type": 2, "prefix": prefix, "start-after": after})
            text = self.sink("GET", f"{bucket}?{query}").decode()
            page = re.findall(r"<Key>(.*?)</Key>.*?<Size>(\d+)</Size>", text)
            found += [(key, int(size)) for key, size in page]
            if "<IsTruncated>true" not in text:
                return found
            after = page[-1][0]

    def start_tls(self):
        """pgBackRest speaks to S3 over TLS only."""
        self.tls_port = free_port()
        pem, config = f"{self.run}/tls.pem", f"{self.run}/haproxy.cfg"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                        "-subj", "/CN=localhost", "-keyout", pem, "-out", f"{pem}.crt"],
                       check=True, stderr=subprocess.DEVNULL)
        with open(pem, "a") as both, open(f"{pem}.crt") as certificate:
            both.write(certificate.read())
        with open(config, "w") as file:
            file.write(f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 10m
  timeout server 10m
frontend tls
  bind 127.0.0.1:{self.tls_port} ssl crt {pem}
  default_backend sink
backend sink
  server sink {self.sink_address}
""")
        proxy = [self.programs["HAPROXY"], "-f", config, "-db", "-q"]
        self.processes.append(subprocess.Popen(proxy))
        wait_for_port(self.tls_port)

    # ---- The cluster -------------------------------------------------------------------------

    def load_cluster(self):
        if os.path.exists(f"{self.cluster}/loaded"):
            return
        print(f"loading a cluster of about {1.55 * self.scale:.2f} GB …", flush=True)
        shutil.rmtree(self.cluster, ignore_errors=True)
        for path in (self.cluster, self.segments, f"{self.cluster}/tablespace"):
            self.make_dir(path)
        self.as_server([f"{self.pg_bin}/initdb", "-D", self.pgdata, "-U", "postgres", "-A", "trust",
                        "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
        with open(f"{self.pgdata}/postgresql.conf", "a") as settings:
            # Durability off: processors and protocols are measured, not disks.
            settings.write("""
listen_addresses = ''
fsync = off
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 1h
autovacuum = off
jit = off
archive_mode = on
archive_command = '/bin/true'
""")
        self.start_cluster()
        rows = int(5_600_000 * self.scale)
        hex_rows = "select i, md5(i::text) as a, md5((3 * i)::text) as b, 'name ' || i % 1000 as c" \
                   " from generate_series(1, {}) i"
        self.as_server([f"{self.pg_bin}/pgbench", "-q", "-i", "-s", str(max(1, int(45 * self.scale))),
                        "-h", self.socket, "-U", "postgres", "postgres"], stderr=subprocess.DEVNULL)
        self.sql(f"create table hex as {hex_rows.format(rows)}")
        self.sql(f"create tablespace apart location '{self.cluster}/tablespace'")
        self.sql(f"create table elsewhere tablespace apart as {hex_rows.format(rows // 4)}")
        self.sql("vacuum freeze")
        self.sql("checkpoint")
        self.collect_segments()
        self.as_server([f"{self.pg_bin}/pg_ctl", "-D", self.pgdata, "-w", "stop"])
        open(f"{self.cluster}/loaded", "w").close()

    def collect_segments(self):
        """Full WAL segments of a writing workload, as the archiver gets them."""
        self.set_archive_command(f"cp %p {self.segments}/%f")
        while len(self.segment_names()) < 12:
            self.as_server([f"{self.pg_bin}/pgbench", "-n", "-c", "4", "-j", "2", "-t", "5000",
                            "-h", self.socket, "-U", "postgres", "postgres"],
                           stderr=subprocess.DEVNULL)
        self.set_archive_command("/bin/true")

    def segment_names(self):
        # The first may have been begun by the load.
        return sorted(name for name in os.listdir(self.segments) if len(name) == 24)[1:]

    def start_cluster(self):
        # A run that was broken off leaves an archive_command that leads nowhere, and the archiver waits a minute after it failed.
        open(f"{self.pgdata}/postgresql.auto.conf", "w").close()
        options = f"-c unix_socket_directories={self.socket}"
        self.as_server([f"{self.pg_bin}/pg_ctl", "-D", self.pgdata, "-w", "-l",
                        f"{self.cluster}/log", "-o", options, "start"])

    def sql(self, statement):
        command = [f"{self.pg_bin}/psql", "-XAtq", "-h", self.socket, "-U", "postgres", "-d",
                   "postgres", "-v", "ON_ERROR_STOP=1", "-c", statement]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def set_archive_command(self, command):
        self.sql("alter system set archive_command = '{}'".format(command.replace("'", "''")))
        self.sql("select pg_reload_conf()")
        wait_until("the archive command is in force", lambda: self.sql(
            "show archive_command") == command)

    def cluster_bytes(self):
        size = "select sum(pg_tablespace_size(oid)) from pg_tablespace"
        return int(self.sql(size))

    def system_identifier(self):
        return int(self.sql("select system_identifier from pg_control_system()"))

    # ---- Made-up WAL -------------------------------------------------------------------------

    def backlog(self, count):
        """A server that is behind: a data directory with `count` segments that wait for the archiver.

        Copies of real ones, each with the address of its own name in its first page."""
        data = f"{self.run}/behind"
        ready = f"{data}/pg_wal/archive_status"
        for path in (data, f"{data}/global", f"{data}/pg_wal", ready):
            self.make_dir(path)
        shutil.copy(f"{self.pgdata}/PG_VERSION", data)
        shutil.copy(f"{self.pgdata}/global/pg_control", f"{data}/global")
        contents = []
        for name in self.segment_names()[:8]:
            with open(f"{self.segments}/{name}", "rb") as file:
                contents.append(bytearray(file.read()))
        names = []
        for number in range(1, count + 1):
            content = contents[number % len(contents)]
            # XLogPageHeaderData: magic, info (two bytes each), timeline (four), address (eight).
            struct.pack_into("<Q", content, 8, number * SEGMENT_BYTES)
            names.append(segment_name(number))
            with open(f"{data}/pg_wal/{names[-1]}", "wb") as file:
                file.write(content)
            open(f"{ready}/{names[-1]}.ready", "w").close()
        if self.user:
            for root, _, files in os.walk(data):
                for file in files:
                    shutil.chown(f"{root}/{file}", self.user)
        return data, names


def segment_name(number):
    return f"00000001{number // 256:08X}{number % 256:08X}"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port):
    def accepts():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0
    wait_until(f"port {port} accepts", accepts)


def wait_until(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s until {what}")
        time.sleep(0.02)
