"""What the download tests share."""

import pytest

from tests.http_source import http_source


@pytest.fixture
def server():
    """A running server of its own for each test."""
    with http_source() as running:
        yield running
