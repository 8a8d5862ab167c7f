"""The one S3 client, and a file in a bucket, from any byte on.

boto3 and not presigned URLs for weights, too: RunPod's network volumes speak S3 without them.
"""

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from handler.settings import BucketSettings
from handler.transfer.download import Answer, OpenAt
from handler.transfer.errors import Problem, TransferError, s3_errors_translated

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 64 * 1024  # what is gathered for a larger piece would be lost with the connection
DEFAULT_REGION = "us-east-1"  # what stores without regions of their own expect in a signature
AWS_DOMAINS = (  # of all its partitions
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".cloud.adc-e.uk",
    ".csp.hci.ic.gov",
)
SPAN = re.compile(r"bytes ([0-9]{1,20})-[0-9]{1,20}/([0-9]{1,20})")


def s3_client(settings: BucketSettings, *, ca_file: Path | None = None) -> "S3Client":
    """A client that asks once: whoever calls tries again, and can be ended in between.

    What the settings leave out is left to boto3's own. `ca_file` (PEM) has one more authority to trust.
    """
    key, secret = settings.access_key_id, settings.secret_access_key
    client = partial(
        boto3.client,
        "s3",
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
    )
    # Without an address of ours, boto3 looks in its own settings (AWS_ENDPOINT_URL_S3 and others).
    address = settings.endpoint_url or client(region_name=settings.region).meta.endpoint_url
    custom = not f".{urlsplit(address).hostname}".endswith(AWS_DOMAINS)
    # Many S3-compatible stores refuse the checksums that boto3 adds by default since 1.36.
    checksums: Literal["when_required", "when_supported"] = "when_required" if custom else "when_supported"
    made: S3Client = client(
        endpoint_url=settings.endpoint_url,
        region_name=settings.region or (DEFAULT_REGION if settings.endpoint_url and custom else None),
        verify=str(ca_file) if ca_file else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": settings.addressing_style or ("path" if custom else "auto")},
            connect_timeout=settings.connect_seconds,
            read_timeout=settings.read_seconds,
            retries={"mode": "standard", "total_max_attempts": 1},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        ),
    )
    return made


def s3_file(client: "S3Client", bucket: str, key: str) -> OpenAt:
    """A file in a bucket, as `handler.transfer.download` reads it."""
    return partial(_open_at, client, bucket, key)


@contextmanager
def _open_at(client: "S3Client", bucket: str, key: str, start: int, version: str | None) -> Iterator[Answer]:
    request: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if start and version:
        request |= {"Range": f"bytes={start}-", "IfMatch": version}
    with s3_errors_translated():
        try:
            got = client.get_object(**request)
        except ClientError as error:
            if not start or error.response.get("Error", {}).get("Code") not in ("InvalidRange", "416"):
                raise
            # Nothing follows; but not all stores compare the versions first, and it may be a shorter file.
            head = client.head_object(Bucket=bucket, Key=key)
            if (head["ContentLength"], head.get("ETag")) != (start, version):
                raise TransferError(Problem.CHANGED, "changed the file while it was fetched") from error
            yield Answer(start=start, total=start, version=version, chunks=())
            return
        # Some servers answer a range with status 200, but all of them name the range.
        span = SPAN.fullmatch(got.get("ContentRange", ""))
        with closing(got["Body"]) as body:
            yield Answer(
                start=int(span[1]) if span else 0,
                total=int(span[2]) if span else got["ContentLength"],
                version=got.get("ETag"),
                chunks=body.iter_chunks(CHUNK_BYTES),
            )
