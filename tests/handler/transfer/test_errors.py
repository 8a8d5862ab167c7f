"""Both tables of codes know what the network can do to a download and to an upload."""

from handler.results.store import CODES as UPLOAD_CODES
from handler.source.download import CODES as DOWNLOAD_CODES
from handler.transfer.errors import Problem

OF_BUCKETS = {Problem.NAME_INVALID, Problem.ACCESS_DENIED, Problem.KEYS_REFUSED, Problem.UPLOAD_UNKNOWN}
OF_DOWNLOADS = {Problem.ENCODED, Problem.TOO_LARGE, Problem.DISK_FULL}


def test_every_problem_has_a_code():
    """But what cannot happen there, and the codes are ones that their classes have."""
    assert set(DOWNLOAD_CODES) == set(Problem) - OF_BUCKETS
    assert set(UPLOAD_CODES) == set(Problem) - OF_DOWNLOADS
    for kind, code, message in (*DOWNLOAD_CODES.values(), *UPLOAD_CODES.values()):
        assert kind(code, message).code == code
