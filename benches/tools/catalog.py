"""Made-up catalogs in the sink: many backups and WAL segments that Barman and barkeep take for real.

Objects of data are zeros that take no memory; only the backup.info are real."""

import datetime

from bed import SEGMENT_BYTES, segment_name

SEEDED_AT_ONCE = 20_000


class Catalog:
    """`backups` good ones, the newest of an hour ago, spread over `segments` WAL segments."""

    def __init__(self, bed, backups, segments, hours_apart=6):
        self.bed, self.backups, self.segments, self.hours_apart = bed, backups, segments, hours_apart
        self.system_identifier = bed.system_identifier()

    def seed(self, bucket, server):
        now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
        prefix, batch = f"bench/{server}", []
        stride = self.segments // self.backups
        for index in range(self.backups):
            age = datetime.timedelta(hours=1 + self.hours_apart * (self.backups - 1 - index))
            backup_id = (now - age).strftime("%Y%m%dT%H%M%S")
            base = f"{prefix}/base/{backup_id}"
            info = self.info(backup_id, now - age, 1 + index * stride)
            self.bed.sink("PUT", f"{bucket}/{base}/backup.info", info.encode())
            batch.append(f"{base}/data.tar\t1500000000")
        for number in range(1, self.segments + 1):
            name = segment_name(number)
            batch.append(f"{prefix}/wals/{name[:16]}/{name}\t{SEGMENT_BYTES}")
            if len(batch) >= SEEDED_AT_ONCE:
                self.flush(bucket, batch)
        self.flush(bucket, batch)

    def flush(self, bucket, batch):
        self.bed.sink("POST", f"__seed/{bucket}", "\n".join(batch).encode())
        batch.clear()

    def info(self, backup_id, begin, number):
        segment, end = segment_name(number), begin + datetime.timedelta(minutes=10)
        begin_lsn, end_lsn = lsn(number, 40), lsn(number, 312)
        label = (f"START WAL LOCATION: {begin_lsn} (file {segment})\\n"
                 f"CHECKPOINT LOCATION: {begin_lsn}\\nBACKUP METHOD: streamed\\n"
                 f"BACKUP FROM: primary\\nSTART TIME: {begin:%Y-%m-%d %H:%M:%S} UTC\\n"
                 f"LABEL: Barman backup cloud {backup_id}\\nSTART TIMELINE: 1\\n")
        return f"""backup_label='{label}'
begin_offset=40
begin_time={begin}
begin_wal={segment}
begin_xlog={begin_lsn}
children_backup_ids=None
cluster_size=1500000000
compression=None
config_file=/pgdata/postgresql.conf
copy_stats={{'total_time': 600.0, 'number_of_workers': 2, 'copy_time': 590.0}}
data_checksums=on
deduplicated_size=None
encryption=None
end_offset=312
end_time={end}
end_wal={segment}
end_xlog={end_lsn}
error=None
hba_file=/pgdata/pg_hba.conf
ident_file=/pgdata/pg_ident.conf
included_files=None
mode=None
parent_backup_id=None
pgdata=/pgdata
server_name=cloud
size=None
status=DONE
summarize_wal=None
systemid={self.system_identifier}
tablespaces=None
timeline=1
version=150018
xlog_segment_size={SEGMENT_BYTES}
"""


def lsn(number, offset):
    return f"{number // 256:X}/{number % 256 * SEGMENT_BYTES + offset:X}"
