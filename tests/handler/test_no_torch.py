"""What happens per job knows no torch: every module of `handler` can be imported without it."""

import subprocess
import sys

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in ("torch", "transformers", "onnxruntime"):
    sys.modules[name] = None  # importing it raises ImportError
import handler
names = [module.name for module in pkgutil.walk_packages(handler.__path__, "handler.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_handler_imports_no_torch():
    """All of `handler`, its command line too, can be imported where torch cannot."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IMPORT_ALL], capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) > 50
