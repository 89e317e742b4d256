"""Where the sink speaks which protocol, and how Barman and barkeep are told of it."""

import dataclasses
import os

ACCOUNT = "benchmark"


@dataclasses.dataclass(frozen=True)
class Cloud:
    title: str
    suffix: str
    """Of the servers whose backups lie there: no two have one name."""
    options: tuple
    """What Barman's commands need besides the URL."""
    env: dict
    root: str
    """The URL of a bucket's parent."""

    def url(self, bucket):
        return f"{self.root}/{bucket}/bench"


def own_env(**more):
    """The sink checks nothing; the clients want to have keys."""
    return {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ} | more


def aws_env():
    return own_env(AWS_ACCESS_KEY_ID="benchmark", AWS_SECRET_ACCESS_KEY="benchmark",
                   AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true")


def s3(url):
    return Cloud("S3", "", ("--endpoint-url", url), aws_env(), "s3:/")


def azure(url):
    account = f"{url}/{ACCOUNT}"
    string = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey=YmVuY2htYXJr;BlobEndpoint={account};"
    return Cloud("Azure", "-azure", ("--cloud-provider", "azure-blob-storage"),
                 own_env(AZURE_STORAGE_CONNECTION_STRING=string), account)


def gcs(url):
    return Cloud("GCS", "-gcs", ("--cloud-provider", "google-cloud-storage"),
                 own_env(STORAGE_EMULATOR_HOST=url), "gs:/")
