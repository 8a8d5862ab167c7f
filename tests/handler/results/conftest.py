"""The S3 server of whole jobs for every test of the results, and a proxy in front of it."""

import pytest

from tests.fault_proxy import fault_proxy


@pytest.fixture
def s3(bucket_of_jobs):
    """The server; every test has its own prefix."""
    return bucket_of_jobs


@pytest.fixture
def proxy(s3):
    """A faithful proxy in front of it, until told otherwise."""
    with fault_proxy(s3.endpoint_url) as proxy:
        yield proxy
