"""What tests of the commands share with those of whole jobs."""

from tests.handler.conftest import clip_of_two, own_logging

__all__ = ["clip_of_two", "own_logging"]
