"""notify.py ROOT UNIT: runs a unit's ExecStart in ROOT as the service manager would, and is told what it would be told.

The stand-in is a socket for NOTIFY_SOCKET and a watchdog of two seconds. The service must say that it is ready, feed the
watchdog, reload on ExecReload's signal, say that it stops, and end with 0.
"""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time

WATCHDOG_SECONDS = 2.0


def settings(path):
    lines = (line.partition("=") for line in open(path, encoding="utf-8") if not line.startswith("#"))
    return {key: value.strip() for key, _, value in lines}


class Manager:
    def __init__(self, root):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(root + "/run/notify")
        os.chmod(root + "/run/notify", 0o777)
        self.started = time.monotonic()

    def await_word(self, word, seconds):
        """Waits for a message that has this word, and returns all of it."""
        end = time.monotonic() + seconds
        while True:
            self.socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                message = self.socket.recv(4096).decode()
            except TimeoutError:
                sys.exit(f"waited {seconds} s for {word}")
            if word in message.split("\n"):
                print(f"      {time.monotonic() - self.started:5.2f} s  {word}")
                return message


def main():
    root, unit = sys.argv[1:]
    unit = settings(unit)
    manager = Manager(root)
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1_000_000)),
    }
    user = ["setpriv", "--reuid=" + unit["User"], "--regid=" + unit["Group"]]
    user += ["--groups=" + unit["SupplementaryGroups"], "--no-new-privs", "--"]
    command = ["chroot", root, *user, *shlex.split(unit["ExecStart"])]
    log = open(root + "/tmp/service.log", "wb")
    service = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        manager.await_word("READY=1", 60)
        for _ in range(3):
            manager.await_word("WATCHDOG=1", WATCHDOG_SECONDS)
        reload = shlex.split(unit["ExecReload"])
        assert reload[:2] == ["/bin/kill", "-HUP"], reload
        service.send_signal(signal.SIGHUP)
        told = manager.await_word("RELOADING=1", 10)
        assert "MONOTONIC_USEC=" in told, told
        manager.await_word("READY=1", 10)
        service.send_signal(signal.SIGTERM)
        manager.await_word("STOPPING=1", 10)
        status = service.wait(60)
    finally:
        service.kill()
        sys.stderr.write(open(root + "/tmp/service.log", encoding="utf-8").read() if service.wait() else "")
    if status != 0:
        sys.exit(f"the service ended with {status}")


main()
