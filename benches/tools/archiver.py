"""archiver.py DATA COMMAND...: runs the command for each segment of DATA that waits, as PostgreSQL's archiver does.

One process after another, the oldest segment first; what was archived is renamed from `.ready` to `.done`. It imports next to
nothing (python3 -I -S) and forks nothing else, so that its own share of what is measured is small."""

import os
import sys

data, command = sys.argv[1], sys.argv[2:]
status = f"{data}/pg_wal/archive_status"
for name in sorted(os.listdir(status)):
    segment = name.removesuffix(".ready")
    if segment == name:
        continue
    process = os.posix_spawnp(command[0], [*command, f"{data}/pg_wal/{segment}"], os.environ)
    _, ended = os.waitpid(process, 0)
    if ended != 0:
        sys.exit(f"{segment}: {command[0]} ended with {os.waitstatus_to_exitcode(ended)}")
    os.rename(f"{status}/{name}", f"{status}/{segment}.done")
