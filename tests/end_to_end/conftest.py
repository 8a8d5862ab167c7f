"""What tests of the whole system share."""

from collections.abc import Iterator

import pytest

from tests.end_to_end.world import World, a_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One endpoint for all tests that need no settings of their own."""
    with a_world(tmp_path_factory.mktemp("world")) as world:
        yield world
