"""spawn.py LOG UID GID COMMAND...: runs a command; prints its wall, processor seconds and peak memory.

A process inherits its parent's peak when it is forked, and fork takes the longer the larger the parent:
so short commands are measured from this one, which imports next to nothing (python3 -I -S)."""

import os
import sys
import time

log, uid, gid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
command = sys.argv[4:]
output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
begin = time.perf_counter()
pid = os.fork()
if pid == 0:
    try:
        os.dup2(output, 1)
        os.dup2(output, 2)
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        os.execvp(command[0], command)
    finally:
        os._exit(127)
_, status, usage = os.wait4(pid, 0)
wall = time.perf_counter() - begin
print(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status) and 1)
