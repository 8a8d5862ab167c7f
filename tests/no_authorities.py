"""No test asks the internet, so the certificate authorities that they know are one, which signs nothing.

Reading the hundred and forty of a machine takes 20 ms for each of the thousands of clients.
"""

import os
from collections.abc import Mapping
from pathlib import Path

_machines_own = os.environ.get("SSL_CERT_FILE")  # noqa: TID251 - of the tests only


def know_none() -> None:
    """Holds for this process and those that it starts."""
    os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_suffix(".pem"))  # noqa: TID251 - OpenSSL reads it there


def know_the_machines(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that does install something from the internet."""
    own = {} if _machines_own is None else {"SSL_CERT_FILE": _machines_own}
    return {name: value for name, value in environment.items() if name != "SSL_CERT_FILE"} | own
