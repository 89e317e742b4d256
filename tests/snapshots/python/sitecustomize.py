"""Leads the SDKs that Barman uses for disks to the stand-ins of the tests.

Boto needs no help: it reads `AWS_ENDPOINT_URL_EC2`. The SDKs of Azure and Google Cloud have no such variable.
"""

import os

ARM = os.environ.get("AZURE_RESOURCE_MANAGER_ENDPOINT")
COMPUTE = os.environ.get("CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE")
TOKEN = "the-token"

if ARM:
    import azure.identity
    import azure.mgmt.compute
    from azure.core.pipeline.policies import SansIOHTTPPolicy

    class Bearer(SansIOHTTPPolicy):
        def on_request(self, request):
            request.http_request.headers["Authorization"] = "Bearer " + TOKEN

    class Nobody:
        def get_token(self, *scopes, **options):
            raise AssertionError("tokens are not asked for")

    azure.identity.DefaultAzureCredential = Nobody
    client = azure.mgmt.compute.ComputeManagementClient
    begin = client.__init__

    def connect(self, credential, subscription_id, **options):
        begin(self, credential, subscription_id, base_url=ARM, authentication_policy=Bearer(),
              polling_interval=0, **options)

    client.__init__ = connect

if COMPUTE:
    import google.auth.credentials
    import google.cloud.compute

    class Bearer(google.auth.credentials.AnonymousCredentials):
        def before_request(self, request, method, url, headers):
            headers["authorization"] = "Bearer " + TOKEN

    def redirected(client):
        begin = client.__init__

        def connect(self, **options):
            endpoint = COMPUTE.split("/compute/v1")[0]
            begin(self, credentials=Bearer(), client_options={"api_endpoint": endpoint}, transport="rest")

        client.__init__ = connect

    for name in ("SnapshotsClient", "DisksClient", "InstancesClient", "GlobalOperationsClient",
                 "ZoneOperationsClient"):
        redirected(getattr(google.cloud.compute, name))
