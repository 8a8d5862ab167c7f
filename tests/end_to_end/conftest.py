"""What tests of the whole system share."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.system import System, a_system


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One endpoint for all tests that need no settings of their own."""
    with a_system(tmp_path_factory.mktemp("system")) as system:
        yield system
