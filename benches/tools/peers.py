"""The programs that are compared: the same verbs, each program's own command lines.

A verb returns the command to measure. Where a program must be set up for it (the server's
archive_command, a stanza), that happens before the command is returned and is not measured."""

import ast
import copy
import os
import shlex
import shutil
import subprocess

import clouds
from bed import wait_until
from clouds import aws_env
from measure import as_user


def in_server(env, command):
    """The same command as the server runs it, whose environment is another."""
    return " ".join(["env", *(shlex.quote(f"{name}={value}") for name, value in env.items()), *command])


class Barman:
    name = "Barman"
    wal = "wal"

    def __init__(self, bed):
        self.bed, self.bin = bed, bed.programs["BARMAN_BIN"]
        self.use(clouds.s3(bed.url))

    def use(self, cloud):
        self.env, self.where, self.suffix = cloud.env, cloud.options, cloud.suffix
        self.url = cloud.url(self.name.lower())

    def at(self, cloud):
        """The same program with another cloud."""
        other = copy.copy(self)
        other.use(cloud)
        return other

    def command(self, verb, *options):
        return [f"{self.bin}/barman-cloud-{verb}", *self.where, *options]

    @staticmethod
    def codec(codec):
        return [] if codec == "none" else [f"--{codec}"]

    def archive(self, path, codec, server=None):
        server = server or f"{self.wal}-{codec}"
        return self.command("wal-archive", *self.codec(codec), self.url, server, path)

    def fetch(self, name, codec, dest):
        return self.command("wal-restore", self.url, f"{self.wal}-{codec}", name, dest)

    def server(self, codec):
        return f"backup-{codec}{self.suffix}"

    def backup(self, codec):
        server = self.server(codec)
        self.bed.set_archive_command(in_server(self.env, self.archive("%p", "none", server)))
        return self.command("backup", "-h", self.bed.socket, "-U", "postgres", "--immediate-checkpoint",
                            "-J", str(self.bed.cores), *self.codec(codec), self.url, server)

    def restore(self, codec, dest):
        places = ["--tablespace", f"apart:{dest}-apart"]
        server = self.server(codec)
        backup = newest_backup(self.bed, "barman", f"bench/{server}")
        return self.command("restore", *places, self.url, server, backup, dest)

    def list(self, server):
        return self.command("backup-list", "--format", "json", self.url, server)

    def expire(self, server, redundancy):
        policy = f"REDUNDANCY {redundancy}"
        return self.command("backup-delete", "--retention-policy", policy, self.url, server)

    def forget(self, codec):
        self.bed.drop(f"barman/bench/{self.server(codec)}/")

    def archive_bytes(self, codec):
        return base_bytes(self.bed, "barman", f"bench/{self.server(codec)}")


class DropIn(Barman):
    """barkeep under Barman's names: the same command lines, another program."""
    name = "barkeep"
    # A catalog of its own: what lies under a name already is compared, and not stored again.
    wal = "named"

    def __init__(self, bed, binary):
        super().__init__(bed)
        self.binary = binary

    def command(self, verb, *options):
        return [self.binary, f"barman-cloud-{verb}", *self.where, *options]


class PgBaseBackup:
    """PostgreSQL's own client, to a local directory."""
    name = "pg_basebackup"

    def __init__(self, bed):
        self.bed, self.env = bed, None
        self.dest = f"{bed.restored}/streamed"

    def backup(self, codec):
        del codec  # Plain files.
        # It ends when the WAL of the backup is archived.
        self.bed.set_archive_command("/bin/true")
        apart = f"{self.bed.cluster}/tablespace={self.dest}-apart"
        return [f"{self.bed.pg_bin}/pg_basebackup", "-h", self.bed.socket, "-U", "postgres", "-D", self.dest,
                "-T", apart, "-X", "none", "-c", "fast", "--no-sync"]

    def stored_bytes(self):
        return sum(os.path.getsize(os.path.join(root, name))
                   for top in (self.dest, f"{self.dest}-apart")
                   for root, _, names in os.walk(top) for name in names)

    def forget(self, codec):
        del codec
        for path in (self.dest, f"{self.dest}-apart"):
            shutil.rmtree(path, ignore_errors=True)
        self.bed.make_dir(self.bed.restored)


class BarmanServer:
    """A whole Barman server: PostgreSQL sends it files, which go to the store by way of a local directory, and WAL.

    What it keeps running besides, the receiver of WAL, is not measured. The slot must go with it: the cluster stays."""
    name = "Barman"

    def __init__(self, bed):
        self.bed, self.bin = bed, bed.programs["BARMAN_BIN"]
        self.env = dict(clouds.s3(bed.url).env, AWS_ENDPOINT_URL=bed.url)
        self.home, self.config = f"{bed.run}/barman", f"{bed.run}/barman.conf"
        self.staging = f"{bed.restored}/staging"
        self.receiver = None

    def __enter__(self):
        for path in (self.home, self.bed.restored):
            self.bed.make_dir(path)
        connection = f"host={self.bed.socket} user=postgres dbname=postgres"
        with open(self.config, "w") as file:
            file.write(f"""
[barman]
barman_user = {self.bed.user or os.environ["USER"]}
barman_home = {self.home}
barman_lock_directory = {self.home}
log_file = {self.bed.run}/log/barman-server.log
[bench]
description = bench
conninfo = {connection}
streaming_conninfo = {connection}
path_prefix = {self.bed.pg_bin}
backup_method = postgres
immediate_checkpoint = true
parallel_jobs = {self.bed.cores}
streaming_archiver = on
slot_name = barman
basebackups_directory = s3://barman/streamed
wals_directory = s3://barman/streamed
cloud_staging_directory = {self.staging}
""")
        try:
            self.maintain("receive-wal", "--create-slot", "bench")
            with open(f"{self.bed.run}/log/receive-wal", "wb") as log:
                self.receiver = subprocess.Popen(
                    self.command("receive-wal", "bench"), env=self.env, cwd="/", stdout=log,
                    stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **as_user(self.bed.user))
            wait_until("Barman receives", lambda: self.slots("active") == "1")
            # Without a segment in its archive Barman takes no backup.
            self.maintain("switch-wal", "--force", "--archive", "--archive-timeout", "60", "bench")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.receiver:
            self.receiver.terminate()
            self.receiver.wait()
        wait_until("Barman's slot is free", lambda: self.slots("active") == "0")
        self.bed.sql("select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                     " where slot_name = 'barman'")
        self.bed.drop("barman/streamed/")
        shutil.rmtree(self.staging, ignore_errors=True)

    def slots(self, condition):
        return self.bed.sql("select count(*) from pg_replication_slots"
                            f" where slot_name = 'barman' and {condition}")

    def command(self, *arguments):
        return [f"{self.bin}/barman", "-q", "-c", self.config, *arguments]

    def maintain(self, *arguments):
        self.bed.as_server(self.command(*arguments), env=self.env, timeout=120)

    def backup(self, codec):
        del codec  # It compresses nothing on this way.
        self.bed.set_archive_command("/bin/true")
        return self.command("backup", "bench")

    def stored_bytes(self):
        return base_bytes(self.bed, "barman", "streamed/bench")

    def forget(self, codec):
        """Barman knows of its backups by files of its own, too."""
        del codec
        if any(key.endswith("/backup.info") for key, _ in self.bed.keys("barman", "streamed/")):
            self.maintain("delete", "bench", "latest")


class Streamer:
    """barkeep, which has PostgreSQL send its files straight to the store."""
    name = "barkeep"

    def __init__(self, barkeep):
        self.barkeep, self.bed, self.env = barkeep, barkeep.bed, barkeep.env
        barkeep.add_server("streamed", 'method = "stream"', 'compression = "none"')

    def backup(self, codec):
        del codec  # As configured.
        archive = self.barkeep.command("wal-archive", "streamed", "%p")
        self.bed.set_archive_command(in_server(self.env, archive))
        return self.barkeep.command("backup", "streamed")

    def stored_bytes(self):
        return base_bytes(self.bed, "barkeep", "bench/streamed")

    def forget(self, codec):
        del codec
        self.bed.drop("barkeep/bench/streamed/")


class PgBackRest:
    name = "pgBackRest"
    codecs = {"none": "none", "lz4": "lz4", "gzip": "gz", "zstd": "zst"}

    def __init__(self, bed):
        self.bed, self.env = bed, aws_env()
        bed.start_tls()
        self.config, self.pushed = f"{bed.run}/pgbackrest.conf", False
        for path in ("pgbackrest-log", "pgbackrest-lock", "pgbackrest-spool"):
            bed.make_dir(f"{bed.run}/{path}")
        with open(self.config, "w") as file:
            file.write(f"""
[global]
repo1-type=s3
repo1-path=/bench
repo1-s3-bucket=pgbackrest
repo1-s3-endpoint=127.0.0.1
repo1-s3-region=us-east-1
repo1-s3-key=benchmark
repo1-s3-key-secret=benchmark
repo1-s3-uri-style=path
repo1-storage-port={bed.tls_port}
repo1-storage-verify-tls=n
repo1-retention-full=1
process-max={bed.cores}
start-fast=y
log-level-console=warn
log-level-file=off
log-path={bed.run}/pgbackrest-log
lock-path={bed.run}/pgbackrest-lock
spool-path={bed.run}/pgbackrest-spool
[bench]
pg1-path={bed.pgdata}
pg1-socket-path={bed.socket}
pg1-user=postgres
""")

    def command(self, verb, *options):
        return [self.bed.programs["PGBACKREST"], f"--config={self.config}", "--stanza=bench",
                *options, *verb.split()]

    def prepare(self):
        if not self.pushed:
            self.bed.as_server(self.command("stanza-create"), env=self.env)
            self.pushed = True

    def archive(self, path, codec):
        self.prepare()
        return self.command("archive-push", f"--compress-type={self.codecs[codec]}") + [path]

    def fetch(self, name, codec, dest):
        return self.command("archive-get") + [name, dest]

    def backup(self, codec):
        self.prepare()
        self.bed.set_archive_command(in_server(self.env, self.archive("%p", "none")))
        return self.command("backup", "--type=full", f"--compress-type={self.codecs[codec]}")

    def restore(self, codec, dest):
        del codec  # The newest backup.
        return self.command("restore", f"--pg1-path={dest}", f"--tablespace-map-all={dest}-apart")

    def forget(self, codec):
        del codec
        self.bed.drop("pgbackrest/")
        self.pushed = False


class Barkeep:
    name = "barkeep"

    def __init__(self, bed, binary):
        self.bed, self.binary, self.env, self.suffix = bed, binary, aws_env(), ""
        self.begin("barkeep.toml")
        # A catalog for each codec: comparing with an archive in another codec is not what is measured.
        for codec in ("none", "zstd"):
            self.add_server(f"wal-{codec}", f'wal = {{ compression = "{codec}" }}')
        for codec in ("none", "lz4", "snappy"):
            self.add_server(f"backup-{codec}", f'compression = "{codec}"')
        self.add_server("backup-gzip", 'compression = { codec = "gzip", level = 6 }')

    def begin(self, name):
        """A configuration of its own, without a server so far."""
        self.config = f"{self.bed.run}/{name}"
        with open(self.config, "w") as file:
            file.write(f"""
version = 1

[destinations.sink]
url = "s3://barkeep/bench"
[destinations.sink.s3]
endpoint_url = "{self.bed.url}"
region = "us-east-1"
addressing_style = "path"

[defaults]
destination = "sink"
method = "files"
jobs = {self.bed.cores}
immediate_checkpoint = true
""")

    def fleet(self, names, *lines):
        """The same program with these servers only."""
        other = copy.copy(self)
        other.begin("fleet.toml")
        for name in names:
            other.add_server(name, *lines)
        return other

    def add_server(self, name, *lines):
        own = [f'connection = "host={self.bed.socket} user=postgres dbname=postgres"']
        if not any(line.startswith("pgdata") for line in lines):
            own.append(f'pgdata = "{self.bed.pgdata}"')
        self.configure("", f"[servers.{name}]", *own, *lines)

    def configure(self, *lines):
        with open(self.config, "a") as file:
            file.write("\n".join([*lines, ""]))

    def at(self, cloud):
        """The same program with another cloud."""
        if not cloud.suffix:
            return self
        other = copy.copy(self)
        other.env, other.suffix = cloud.env, cloud.suffix
        destination = f"sink{cloud.suffix}"
        other.configure("", f"[destinations.{destination}]", f'url = "{cloud.url("barkeep")}"')
        other.add_server(other.server("lz4"), f'destination = "{destination}"', 'compression = "lz4"')
        return other

    def server(self, codec):
        return f"backup-{codec}{self.suffix}"

    def command(self, *arguments):
        return [self.binary, "--config", self.config, *arguments]

    def archive(self, path, codec):
        return self.command("wal-archive", f"wal-{codec}", path)

    def fetch(self, name, codec, dest):
        return self.command("wal-restore", f"wal-{codec}", name, dest)

    def backup(self, codec):
        server = self.server(codec)
        self.bed.set_archive_command(in_server(self.env, self.command("wal-archive", server, "%p")))
        return self.command("backup", server)

    def restore(self, codec, dest):
        server = self.server(codec)
        places = ["--tablespace", f"apart:{dest}-apart"]
        backup = newest_backup(self.bed, "barkeep", f"bench/{server}")
        return self.command("restore", *places, server, backup, dest)

    def list(self, server):
        return self.command("list", server, "--format", "json")

    def expire(self, server):
        return self.command("reconcile", "--once", server)

    def plan(self, *servers):
        return self.command("plan", *servers)

    def forget(self, codec):
        self.bed.drop(f"barkeep/bench/{self.server(codec)}/")

    def archive_bytes(self, codec):
        return base_bytes(self.bed, "barkeep", f"bench/{self.server(codec)}")

    def copy_seconds(self, codec):
        """The copy phase of the newest backup, as its backup.info has it."""
        prefix = f"bench/{self.server(codec)}"
        backup = newest_backup(self.bed, "barkeep", prefix)
        info = self.bed.sink("GET", f"barkeep/{prefix}/base/{backup}/backup.info").decode()
        for line in info.splitlines():
            if line.startswith("copy_stats="):
                stats = ast.literal_eval(line.split("=", 1)[1])
                return stats and stats.get("copy_time")
        return None


def newest_backup(bed, bucket, prefix):
    infos = [key for key, _ in bed.keys(bucket, f"{prefix}/base/") if key.endswith("/backup.info")]
    return max(key.split("/")[-2] for key in infos)


def base_bytes(bed, bucket, prefix):
    return sum(size for key, size in bed.keys(bucket, f"{prefix}/base/"))
