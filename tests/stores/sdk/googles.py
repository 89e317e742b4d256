"""Google's own client, as Barman uses it, at the service whose URL is the argument: it must find there what it finds at Google's.

Leaves the objects `kept/event`, `kept/temporary`, `kept/retained` and `kept/free` in the bucket `bucket`.
"""

import datetime
import os
import sys

os.environ["STORAGE_EMULATOR_HOST"] = sys.argv[1]
os.environ["GOOGLE_CLOUD_PROJECT"] = "emulated"

from google.api_core.exceptions import Conflict, Forbidden, NotFound, PreconditionFailed
from google.cloud import storage

client = storage.Client()


def refused(kind, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except kind:
        return
    raise AssertionError(f"{call} is not refused with {kind}")


def write(bucket, name, text="x", **options):
    blob = bucket.blob(name)
    blob.upload_from_string(text, **options)
    blob.reload()
    return blob


def names(bucket, **options):
    return [blob.name for blob in client.list_blobs(bucket, **options)]


def conditions(bucket):
    blob = write(bucket, "conditions", "one", if_generation_match=0)
    first = blob.generation
    refused(PreconditionFailed, blob.upload_from_string, "two", if_generation_match=0)
    blob.upload_from_string("two", if_generation_match=first)
    blob.reload()
    assert blob.generation > first and blob.download_as_bytes() == b"two"
    refused(PreconditionFailed, blob.delete, if_generation_match=first)
    assert blob.download_as_bytes(start=1, end=2) == b"wo"
    blob.delete(if_generation_match=blob.generation)
    assert not blob.exists()
    refused(NotFound, blob.delete)


def listings(bucket):
    for name in ["a", "b/x", "b/y", "c"]:
        write(bucket, f"list/{name}")
    for size in [1, 2, 1000]:
        listed = client.list_blobs(bucket, prefix="list/", delimiter="/", page_size=size)
        assert [blob.name for blob in listed] == ["list/a", "list/c"], size
        assert listed.prefixes == {"list/b/"}, listed.prefixes
    assert names(bucket, prefix="list/", start_offset="list/b/y") == ["list/b/y", "list/c"]
    with client.batch():
        for name in ["a", "b/x", "b/y", "c"]:
            bucket.blob(f"list/{name}").delete()
    assert names(bucket, prefix="list/") == []


def long(bucket):
    blob = bucket.blob("long", chunk_size=256 << 10)
    blob.metadata = {"team": "db"}
    with blob.open("wb", ignore_flush=True) as file:
        file.write(b"x" * (600 << 10))
    blob.reload()
    assert blob.size == 600 << 10 and blob.metadata == {"team": "db"}
    assert blob.content_type == "application/octet-stream"
    whole = write(bucket, "whole", "end")
    bucket.blob("composed").compose([blob, whole])
    composed = bucket.get_blob("composed")
    assert composed.component_count == 2 and composed.size == (600 << 10) + 3
    bucket.delete_blobs(list(client.list_blobs(bucket)))


def locks(bucket):
    event, temporary, retained = (
        write(bucket, f"kept/{name}") for name in ["event", "temporary", "retained"]
    )
    write(bucket, "kept/free")
    event.event_based_hold = True
    temporary.temporary_hold = True
    retained.retention.mode = "Locked"
    retained.retention.retain_until_time = datetime.datetime(
        2099, 1, 1, tzinfo=datetime.timezone.utc
    )
    for blob in [event, temporary, retained]:
        blob.patch()
        refused(Forbidden, blob.delete)
        refused(Forbidden, blob.upload_from_string, "other")
    listed = {blob.name: blob for blob in client.list_blobs(bucket, prefix="kept/")}
    assert listed["kept/event"].event_based_hold
    assert listed["kept/temporary"].temporary_hold
    assert listed["kept/retained"].retention.retain_until_time.year == 2099
    assert not listed["kept/free"].temporary_hold


def retention():
    bucket = client.bucket("retained")
    bucket.retention_period = 3600
    bucket = client.create_bucket(bucket)
    assert bucket.retention_period == 3600 and not bucket.retention_policy_locked
    blob = write(bucket, "a")
    assert blob.retention_expiration_time > datetime.datetime.now(datetime.timezone.utc)
    refused(Forbidden, blob.delete)


def versions():
    bucket = client.bucket("versioned")
    bucket.versioning_enabled = True
    bucket = client.create_bucket(bucket)
    assert bucket.versioning_enabled
    first = write(bucket, "a", "one").generation
    write(bucket, "a", "two")
    bucket.delete_blob("a")
    assert names(bucket) == [] and names(bucket, versions=True) == ["a", "a"]
    assert bucket.blob("a", generation=first).download_as_bytes() == b"one"


def soft():
    bucket = client.bucket("soft")
    bucket.soft_delete_policy.retention_duration_seconds = 604800
    bucket = client.create_bucket(bucket)
    assert bucket.soft_delete_policy.retention_duration_seconds == 604800
    write(bucket, "a")
    bucket.delete_blob("a")
    assert names(bucket) == [] and names(bucket, soft_deleted=True) == ["a"]


refused(NotFound, client.get_bucket, "bucket")
bucket = client.create_bucket("bucket")
refused(Conflict, client.create_bucket, "bucket")
conditions(bucket)
listings(bucket)
long(bucket)
locks(bucket)
retention()
versions()
soft()
