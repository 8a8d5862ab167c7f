"""Weight files at `s3://bucket/key`, by boto3. Knows nothing of retries or files.

boto3 and not presigned URLs: RunPod's network volumes speak S3 without them.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from ops.weights.answers import Answer, Ask, Changed, Complete, SourceFailed, TryAgain
from ops.weights.settings import WeightSettings, WeightStorageSettings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CHUNK_BYTES = 2**16  # what is gathered for a larger piece would be lost with the connection
DEFAULT_REGION = "us-east-1"  # what stores without regions of their own expect in a signature
_NOT_THERE = {"NoSuchKey", "NoSuchBucket", "404"}
_REFUSED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}


def s3_client(storage: WeightStorageSettings, settings: WeightSettings) -> "S3Client":
    """A client with the operator's credentials; without any, boto3 looks where it always does."""
    import boto3  # takes a second, and most operators have no s3:// source
    from botocore.config import Config

    custom = storage.endpoint_url is not None
    checksums: Literal["when_required", "when_supported"] = "when_required" if custom else "when_supported"
    key, secret = storage.access_key_id, storage.secret_access_key
    return boto3.client(
        "s3",
        endpoint_url=storage.endpoint_url,
        region_name=storage.region or (DEFAULT_REGION if custom else None),
        aws_access_key_id=key.get_secret_value() if key else None,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        verify=str(settings.ca_file) if settings.ca_file else None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if custom else "auto"},
            connect_timeout=settings.connect_seconds,
            read_timeout=settings.read_seconds,
            retries={"mode": "standard", "total_max_attempts": 1},  # the caller's retries resume
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
        ),
    )


def ask_s3(client: "S3Client", address: str) -> Ask:
    """How to ask for the object at `s3://bucket/key`."""
    parts = urlsplit(address)
    return partial(_answered, client, parts.netloc, parts.path.lstrip("/"))


@contextmanager
def _answered(client: "S3Client", bucket: str, key: str, place: int, version: str | None) -> Iterator[Answer]:
    request: dict[str, Any] = {"Bucket": bucket, "Key": key}
    if place and version:
        request |= {"Range": f"bytes={place}-", "IfMatch": version}
    with _translated(place):
        got = client.get_object(**request)
        # Some servers answer a range with status 200, but all of them name the range.
        span = re.fullmatch(r"bytes ([0-9]{1,20})-[0-9]{1,20}/([0-9]{1,20})", got.get("ContentRange", ""))
        if span and int(span[1]) != place:
            raise Changed("the server sent another part than was asked for")
        yield Answer(
            start=place if span else 0,
            total=int(span[2]) if span else got["ContentLength"],
            version=got.get("ETag"),
            chunks=got["Body"].iter_chunks(CHUNK_BYTES),
        )


@contextmanager
def _translated(place: int) -> Iterator[None]:
    """boto3's errors as ours. Its messages stay behind: they name hosts, buckets and key ids."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
        SSLError,
    )

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in ("InvalidRange", "416") and place:
            raise Complete from error
        if code in ("PreconditionFailed", "412"):
            raise Changed("the file changed") from error
        if code in _NOT_THERE:
            raise SourceFailed("has no such object") from error
        if code in _REFUSED:
            raise SourceFailed("refused the credentials (WEIGHTS_S3_* or BUCKET_*)") from error
        raise TryAgain(f"answered {code}") from error
    except NoCredentialsError as error:
        raise SourceFailed("needs credentials (WEIGHTS_S3_* or BUCKET_*)") from error
    except SSLError as error:
        raise SourceFailed("has a certificate that is not trusted (WEIGHTS_CA_FILE)") from error
    except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
        raise TryAgain("cannot be reached, or broke off") from error
    except BotoCoreError as error:
        raise SourceFailed("is not an address that can be fetched") from error
