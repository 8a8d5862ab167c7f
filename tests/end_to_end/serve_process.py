"""`serve` with a worker of the tests, as a process of its own: `python -m ... DATA PORT WORKERS MODULE`."""

import sys
from pathlib import Path

from ops.endpoint.serve import ServeOptions, run
from ops.endpoint.settings import ServeSettings


def main() -> None:
    """Serve until told to end."""
    data, port, num_workers, worker = sys.argv[1:]
    run(
        ServeOptions(
            data=Path(data),
            port=int(port),
            storage_port=0,
            num_workers=int(num_workers),
            gpus=("a", "b"),
            models="lite",
            worker_arguments=(sys.executable, "-m", worker),
        ),
        ServeSettings(ping_seconds=1, hold_seconds=3.0, webhook_interval_seconds=0.2),
    )


if __name__ == "__main__":
    main()
