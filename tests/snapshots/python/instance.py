"""instance.py URL: makes an instance with two more disks in an EC2 that is moto."""

import sys

import boto3

ec2 = boto3.client("ec2", endpoint_url=sys.argv[1], region_name="us-east-1")


def named(kind, name):
    return [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": name}]}]


image = ec2.describe_images()["Images"][0]["ImageId"]
made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, InstanceType="t3.micro",
                         TagSpecifications=named("instance", "pg-1"))
instance = made["Instances"][0]["InstanceId"]
described = ec2.describe_instances(InstanceIds=[instance])["Reservations"][0]["Instances"][0]
for name, device in (("pgdata", "/dev/sdf"), ("pgwal", "/dev/sdg")):
    volume = ec2.create_volume(Size=10, AvailabilityZone=described["Placement"]["AvailabilityZone"],
                               TagSpecifications=named("volume", name))
    ec2.attach_volume(VolumeId=volume["VolumeId"], InstanceId=instance, Device=device)
