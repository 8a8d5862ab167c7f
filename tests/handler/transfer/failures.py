"""A download that must fail, and the checks that hold for every failure."""

import threading

import pytest

from handler.errors import JobError
from handler.settings import IntakeSettings
from handler.source.download import download

DATA = bytes(range(256)) * 2000  # 512 kB


def settings(**changes) -> IntakeSettings:
    """The limits of these tests: loopback, one quick retry."""
    values = {
        "allow_http": True,
        "allow_private_addresses": True,
        "allowed_ports": (),
        "download_attempts": 2,
        "read_seconds": 0.3,
        "reserve_disk_bytes": 0,
    }
    return IntakeSettings(**(values | changes))


def failed(kind: type[JobError], url: str, folder, limits: IntakeSettings, **more) -> JobError:
    """The error of a download that must fail; it leaves no file, no thread and no secret behind."""
    threads = set(threading.enumerate())
    with pytest.raises(kind) as caught:
        download(url, folder, limits, **more)
    assert list(folder.iterdir()) == []
    left = {thread.name for thread in set(threading.enumerate()) - threads}
    assert not [name for name in left if "process_request" not in name and name != "test-server"]
    told = str(caught.value) + repr(caught.value)
    assert not [secret for secret in ("SECRET", "127.0.0.1", "mp4") if secret in told]
    return caught.value
