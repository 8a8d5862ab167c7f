"""One S3 server for every test of the results, and a proxy in front of it."""

import pytest

from tests.fault_proxy import fault_proxy
from tests.s3_server import s3_server


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """Not the one of whole jobs, which look through all of theirs; every test has its own prefix."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def proxy(s3):
    """A faithful proxy in front of it, until told otherwise."""
    with fault_proxy(s3.endpoint_url) as proxy:
        yield proxy
