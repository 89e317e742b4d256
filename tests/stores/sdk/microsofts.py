"""Microsoft's own client at a service that the tests pretend: what it reads there of locks, a line for each object.

The argument is the connection string.
"""

import sys

from azure.storage.blob import ContainerClient

container = ContainerClient.from_connection_string(sys.argv[1], "backups")
properties = container.get_container_properties()
print(
    "container",
    properties.immutable_storage_with_versioning_enabled,
    properties.has_immutability_policy,
    properties.has_legal_hold,
)


def told(blob):
    policy = blob.immutability_policy
    until = policy.expiry_time and policy.expiry_time.isoformat()
    return f"{blob.name} {until} {policy.policy_mode} {blob.has_legal_hold}"


for blob in container.list_blobs(include=["immutabilitypolicy", "legalhold"]):
    print("listed", told(blob))
    print("asked", told(container.get_blob_client(blob.name).get_blob_properties()))
