"""sdk.py CLOUD: asks a stand-in as a cloud's own SDK does for what Barman does not ask for.

There are three snapshots and two things to a page; a fifth snapshot is refused, and the first list comes too early.
"""

import os
import sys

PROJECT, ZONE = "project", "europe-west8-a"
TAGS = {"key": "value"}


def refused(kind, what):
    try:
        what()
    except kind as error:
        return error
    raise AssertionError("it was accepted")


def aws():
    import boto3
    from botocore.exceptions import ClientError

    ec2 = boto3.client("ec2", region_name="us-east-1")

    def all_of(call, key, **options):
        return [one for page in ec2.get_paginator(call).paginate(**options) for one in page[key]]

    snapshots = all_of("describe_snapshots", "Snapshots", OwnerIds=["self"])
    assert len(snapshots) == 3, snapshots
    volumes = all_of("describe_volumes", "Volumes")
    assert len(volumes) == 4, volumes
    assert len(all_of("describe_instances", "Reservations")) == 2
    volume = next(one for one in volumes if {"Key": "Name", "Value": "pgdata"} in one["Tags"])
    snapshot = ec2.create_snapshot(VolumeId=volume["VolumeId"])["SnapshotId"]
    error = refused(ClientError, lambda: ec2.create_snapshot(VolumeId=volume["VolumeId"]))
    assert error.response["Error"]["Code"] == "SnapshotLimitExceeded", error
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig={"Delay": 0})

    locked = ec2.lock_snapshot(SnapshotId=snapshot, LockMode="governance", LockDuration=7)
    assert locked["LockState"] == "governance", locked
    locked = ec2.describe_locked_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    assert [one["LockState"] for one in locked] == ["governance"], locked
    error = refused(ClientError, lambda: ec2.delete_snapshot(SnapshotId=snapshot))
    assert error.response["Error"]["Code"] == "SnapshotLocked", error

    made = ec2.create_volume(SnapshotId=snapshot, AvailabilityZone="us-east-1a", VolumeType="gp3")
    made = made["VolumeId"]
    attach = {"VolumeId": made, "InstanceId": "i-0bbbbbbbbbbbbbbbb", "Device": "/dev/sdf"}
    error = refused(ClientError, lambda: ec2.attach_volume(**attach))
    assert error.response["Error"]["Code"] == "IncorrectState", error
    ec2.get_waiter("volume_available").wait(VolumeIds=[made], WaiterConfig={"Delay": 0})
    ec2.attach_volume(**attach)
    ec2.get_waiter("volume_in_use").wait(VolumeIds=[made], WaiterConfig={"Delay": 0})


def azure():
    from azure.core.exceptions import HttpResponseError
    from azure.identity import DefaultAzureCredential
    from azure.mgmt.compute import ComputeManagementClient

    subscription, group = os.environ["SUBSCRIPTION"], os.environ["GROUP"]
    compute = ComputeManagementClient(DefaultAzureCredential(), subscription)
    snapshots = list(compute.snapshots.list_by_resource_group(group))
    assert len(snapshots) == 3, snapshots
    disks = {disk.name: disk for disk in compute.disks.list_by_resource_group(group)}
    assert len(disks) == 4, disks

    def take(name):
        made = {"create_option": "Copy", "source_resource_id": disks["pgdata"].id}
        wanted = {"location": "uksouth", "incremental": True, "creation_data": made}
        return compute.snapshots.begin_create_or_update(group, name, wanted).result()

    snapshot = take("four")
    assert snapshot.provisioning_state == "Succeeded", snapshot
    error = refused(HttpResponseError, lambda: take("five"))
    assert error.error.code == "SnapshotsLimitReached", error

    made = {"create_option": "Copy", "source_resource_id": snapshot.id}
    wanted = {"location": "uksouth", "creation_data": made, "tags": TAGS}
    made = compute.disks.begin_create_or_update(group, "again", wanted).result()
    assert (made.name, made.tags) == ("again", TAGS), made
    disks = {disk.name: disk for disk in compute.disks.list_by_resource_group(group)}
    assert disks["again"].provisioning_state == "Succeeded", disks["again"]
    attach = {"data_disks_to_attach": [{"disk_id": made.id, "lun": 3}]}
    compute.virtual_machines.begin_attach_detach_data_disks(group, "pg-new", attach).result()
    machine = compute.virtual_machines.get(group, "pg-new")
    attached = [(disk.name, disk.lun) for disk in machine.storage_profile.data_disks]
    assert attached == [("again", 3)], attached


def google():
    from google.api_core.exceptions import Forbidden
    from google.cloud import compute

    snapshots = compute.SnapshotsClient()
    disks = compute.DisksClient()
    assert len(list(snapshots.list(project=PROJECT))) == 3
    assert len(list(disks.list(project=PROJECT, zone=ZONE))) == 4

    def take(name):
        wanted = compute.Snapshot(name=name, source_disk=f"projects/{PROJECT}/zones/{ZONE}/disks/pgdata")
        snapshots.insert(project=PROJECT, snapshot_resource=wanted).result()

    take("four")
    assert snapshots.get(project=PROJECT, snapshot="four").status == "READY"
    error = refused(Forbidden, lambda: take("five"))
    assert error.errors[0]["reason"] == "quotaExceeded", error

    source = f"projects/{PROJECT}/global/snapshots/four"
    wanted = compute.Disk(name="again", source_snapshot=source, labels=TAGS)
    disks.insert(project=PROJECT, zone=ZONE, disk_resource=wanted).result()
    carrying = disks.list(request={"project": PROJECT, "zone": ZONE, "filter": '(labels.key = "value")'})
    assert [(disk.name, disk.status) for disk in carrying] == [("again", "READY")]
    attach = compute.AttachedDisk(source=f"projects/{PROJECT}/zones/{ZONE}/disks/again", device_name="again")
    compute.InstancesClient().attach_disk(
        project=PROJECT, zone=ZONE, instance="pg-new", attached_disk_resource=attach).result()
    instance = compute.InstancesClient().get(project=PROJECT, zone=ZONE, instance="pg-new")
    assert "again" in [disk.device_name for disk in instance.disks], instance


{"Aws": aws, "Azure": azure, "Google": google}[sys.argv[1]]()
