"""`serve` with the small worker of the tests, as a process of its own: `python -m ... DATA PORT WORKERS`."""

import sys
from pathlib import Path

from handler.local.serve import ServeOptions, run

WORKER = Path(__file__).with_name("sdk_worker.py")


def main() -> None:
    """Serve until told to end."""
    data, port, num_workers = sys.argv[1:]
    run(
        ServeOptions(
            data=Path(data),
            port=int(port),
            storage_port=0,
            num_workers=int(num_workers),
            worker_arguments=(sys.executable, str(WORKER)),
        )
    )


if __name__ == "__main__":
    main()
