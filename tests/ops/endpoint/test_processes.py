"""How a process is known again."""

import os
import subprocess

from ops.endpoint.processes import birth


def test_birth_tells_a_living_process_from_others() -> None:
    """The same while it lives; none for one that has ended, reaped or not, or never was."""
    assert birth(os.getpid()) == birth(os.getpid()) is not None
    with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert birth(child.pid) not in (None, birth(os.getpid()))
        child.stdin.close()
        while birth(child.pid) is not None:  # it ends as a zombie, since nobody has waited for it
            pass
        assert child.returncode is None
    assert birth(child.pid) is None
    assert birth(2**22 + 1) is None
