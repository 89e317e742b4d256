"""Runs Barman's own installed code over catalogs that are given as JSON, without any storage.

Reads one request per line from standard input and answers each with one line. A request names what to
do in `ask`:

- `expire`: `objects` (key below the server to text), `policy`, `minimum`, `now`, `listing` (`s3`
  if prefixes can be listed). Runs the delete command with a retention policy. Answers with `code`, the
  `report` (id to word; null if there was none) and the `deleted` keys.
- `read`: `text` of a backup.info. Answers with `fields` as Barman would show them, or `error`.
- `write`: `fields`, Python literals by name. Answers with the `text` that Barman would store.
"""

import ast
import datetime
import io
import json
import logging
import sys

import barman.clients.cloud_backup_delete as delete
import barman.output
import barman.retention_policies as retention
from barman.infofile import BackupInfo, Tablespace

ROOT = "prefix/server/"


class Objects:
    """A bucket in memory, with the methods that Barman's catalog asks for."""

    path = "prefix"

    def __init__(self, objects, listing):
        self.objects = {ROOT + key: text for key, text in objects.items()}
        self.listing = listing
        self.deleted = []

    def list_bucket(self, prefix="", delimiter="/"):
        found = set()
        for key in self.objects:
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix):]
            if delimiter and delimiter in rest:
                found.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                found.add(key)
        return sorted(found)

    def remote_open(self, key, decompressor=None):
        text = self.objects.get(key)
        return None if text is None else io.BytesIO(text.encode())

    def get_prefixes(self, prefix):
        if self.listing != "s3":
            raise NotImplementedError()
        return [key for key in self.list_bucket(prefix + "/") if key.endswith("/")]

    def delete_objects(self, keys, **_):
        for key in keys:
            if self.objects.pop(key, None) is not None:
                self.deleted.append(key[len(ROOT):])

    def delete_under_prefix(self, prefix, **_):
        self.delete_objects([key for key in self.objects if key.startswith(prefix)])

    def close(self):
        pass


class Clock(datetime.datetime):
    """The present, as the request has it."""

    present = None

    @classmethod
    def now(cls, tz=None):
        return cls.present.astimezone(tz)


def expire(request):
    bucket = Objects(request["objects"], request["listing"])
    Clock.present = datetime.datetime.fromisoformat(request["now"])
    reports = []

    class Factory:
        @staticmethod
        def create(*args, **kwargs):
            policy = retention.RetentionPolicyFactory.create(*args, **kwargs)
            inner = policy.report
            policy.report = lambda: reports.append(inner()) or reports[-1]
            return policy

    delete.get_cloud_interface = lambda config: bucket
    delete.RetentionPolicyFactory = Factory
    code = 0
    try:
        delete.main(
            ["s3://bucket/prefix", "server", "-r", request["policy"]]
            + ["-m", str(request["minimum"])]
        )
    except SystemExit as stop:
        code = stop.code
    report = reports[0] if reports else None
    return {"code": code, "report": report, "deleted": bucket.deleted}


def read(request):
    info = BackupInfo("x")
    try:
        info.load(file_object=io.BytesIO(request["text"].encode()))
    except (Exception, SystemExit) as error:
        return {"error": str(error)}
    fields = {}
    for name, _ in info.items():
        value = getattr(info, name)
        if isinstance(value, datetime.datetime):
            value = value.astimezone(datetime.timezone.utc).isoformat()
        elif name == "tablespaces" and value:
            value = [list(item) for item in value]
        elif name == "snapshots_info" and value:
            value = [snapshot.identifier for snapshot in value.snapshots]
        fields[name] = value
    return {"fields": fields}


def write(request):
    info = BackupInfo("x")
    for name, literal in request["fields"].items():
        value = ast.literal_eval(literal)
        if name == "tablespaces" and value:
            value = [Tablespace._make(item) for item in value]
        if name.endswith("_time") and value:
            value = datetime.datetime.fromisoformat(value)
        setattr(info, name, value)
    stored = io.BytesIO()
    info.save(file_object=stored)
    return {"text": stored.getvalue().decode()}


def main():
    logging.disable(logging.CRITICAL)
    delete.configure_logging = lambda config: None
    retention.datetime = Clock
    barman.output.error = lambda *_, **__: None
    answers = sys.stdout
    sys.stdout = sys.stderr
    for line in sys.stdin:
        request = json.loads(line)
        answer = {"expire": expire, "read": read, "write": write}[request["ask"]](request)
        print(json.dumps(answer), file=answers, flush=True)


main()
