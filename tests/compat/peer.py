"""Barman's own command line programs in one process, asked line by line.

Reads one request per line from standard input and answers each with one line. A request names what to
do in `ask`:

- `grammar`: `program`. Answers with the `arguments` and the exclusive `groups` of its parser.
- `parse`: `program`, `argv`. Answers with the `values` as Python writes them, or with how it ended: its
  `code`, and what it complained of; code -1 where it broke down.
- `run`: `program`, `argv`, `environment`, `directory`, `zone`. Runs it in a child of this process, with no other
  variables than these. Answers with `code`, `stdout` and `stderr`.
"""

import argparse
import contextlib
import datetime
import importlib
import io
import json
import logging
import os
import re
import sys
import tempfile
import time
import traceback

MODULES = {
    "barman-cloud-backup": "cloud_backup",
    "barman-cloud-backup-delete": "cloud_backup_delete",
    "barman-cloud-backup-keep": "cloud_backup_keep",
    "barman-cloud-backup-list": "cloud_backup_list",
    "barman-cloud-backup-show": "cloud_backup_show",
    "barman-cloud-check-wal-archive": "cloud_check_wal_archive",
    "barman-cloud-restore": "cloud_restore",
    "barman-cloud-wal-archive": "cloud_walarchive",
    "barman-cloud-wal-restore": "cloud_walrestore",
}


def module(program):
    sys.argv = [program]
    return importlib.import_module("barman.clients." + MODULES[program])


def match_partial(self, actions, pattern):
    """As Python does it from 3.12.7 and 3.13.1 on: an optional positional that got nothing in front of an
    option may still find something behind it. Older Pythons refuse what these take."""
    for end in range(len(actions), 0, -1):
        expected = "".join(self._get_nargs_pattern(action) for action in actions[:end])
        match = re.match(expected, pattern)
        if match is not None:
            counts = [len(words) for words in match.groups()]
            if pattern[match.end():match.end() + 1] == "O":
                while counts and not counts[-1]:
                    del counts[-1]
            return counts
    return []


argparse.ArgumentParser._match_arguments_partial = match_partial


class Seen(Exception):
    """The parser, instead of what it would have parsed."""


def grammar(request):
    def see(parser, args=None, namespace=None):
        raise Seen(parser)

    parse, argparse.ArgumentParser.parse_args = argparse.ArgumentParser.parse_args, see
    try:
        module(request["program"]).parse_arguments([])
    except Seen as seen:
        parser = seen.args[0]
    finally:
        argparse.ArgumentParser.parse_args = parse
    arguments = []
    for action in parser._actions:
        default = None if action.default == argparse.SUPPRESS else action.default
        arguments.append(
            {
                "name": action.dest,
                "flags": action.option_strings,
                "action": type(action).__name__.strip("_").replace("Action", ""),
                "nargs": action.nargs,
                "const": action.const,
                "default": default,
                "choices": action.choices,
            }
        )
    groups = [
        [[action.option_strings[0] for action in group._group_actions], group.required]
        for group in parser._mutually_exclusive_groups
    ]
    return {"arguments": arguments, "groups": groups}


def parse(request):
    client = module(request["program"])
    out, err = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(err)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            values = vars(client.parse_arguments(request["argv"]))
    except SystemExit as stop:
        complaint = err.getvalue().removesuffix("\n").split(request["program"] + ": error: ")[-1]
        return {"code": stop.code or 0, "complaint": complaint, "stdout": out.getvalue()}
    except Exception as error:
        return {"code": -1, "complaint": repr(error), "stdout": ""}
    finally:
        logging.getLogger().removeHandler(handler)
    # What Barman makes of several values comes after the parser.
    values = {name: value for name, value in values.items() if name not in ("tags", "history_tags")}
    for name, value in values.items():
        if isinstance(value, datetime.datetime):
            values[name] = "an instant"
    return {"values": repr(dict(sorted(values.items())))}


def warm():
    """Loads what every run needs, once: descriptions of services take longer to read than all the rest."""
    import boto3
    import botocore.loaders

    loader = botocore.loaders.Loader()
    botocore.loaders.create_loader = lambda search_path_string=None: loader
    import botocore.session

    botocore.session.botocore.loaders.create_loader = botocore.loaders.create_loader
    boto3.session.Session(region_name="us-east-1").resource("s3")
    with contextlib.suppress(ImportError):
        import azure.identity
        import azure.storage.blob
        import google.cloud.storage
    import psycopg2
    for program in MODULES:
        module(program)


def run(request):
    client = module(request["program"])
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 70
            try:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                sys.stdout, sys.stderr = open(1, "w"), open(2, "w")
                os.environ.clear()
                os.environ.update({"PATH": "/usr/bin:/bin", "TZ": request["zone"]} | request["environment"])
                time.tzset()
                os.chdir(request["directory"])
                code = call(client, request["argv"])
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return {"code": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}


def call(client, argv):
    """Calls a program as its script does."""
    try:
        client.main(argv)
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return stop.code or 0
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def main():
    answers = sys.stdout
    asked = {"grammar": grammar, "parse": parse, "run": run}
    warmed = False
    for line in sys.stdin:
        request = json.loads(line)
        if request["ask"] == "run" and not warmed:
            warm()
            warmed = True
        print(json.dumps(asked[request["ask"]](request)), file=answers, flush=True)


main()
