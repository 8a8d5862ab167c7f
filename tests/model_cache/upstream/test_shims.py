"""What is done to foreign packages leaves nothing behind, and says plainly when they are not there."""

import importlib.util
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from transformers.utils import is_torchvision_available

from model_cache.errors import EngineMissing
from model_cache.upstream import shims


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A package with the habits of the official ones; its name."""
    folder = tmp_path / "rude_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "import warnings, numpy\n"
        "warnings.filterwarnings('ignore')\n"
        "numpy.set_printoptions(precision=1)\n"
        "import absent_gl.light\n"
        "from absent_gl.registry import REGISTRY, Base\n"
        "from typing import List\n"
        "def lights() -> List[absent_gl.Node]: ...\n"
        "@REGISTRY.register()\n"
        "class Derived(Base): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "rude_package"
    sys.modules.pop("rude_package", None)


def test_packages_that_are_never_used_need_not_be_there(foreign):
    """Annotations, base classes and registries of absent packages work at import, which leaves no trace."""
    filters, precision = list(warnings.filters), np.get_printoptions()["precision"]

    with shims.imports_without(("absent_gl",)):
        module = importlib.import_module(foreign)

    assert module.Derived.__name__ == "Derived"
    with pytest.raises(EngineMissing, match="leaves out"):
        module.Derived()
    assert list(warnings.filters) == filters
    assert np.get_printoptions()["precision"] == precision
    assert not [name for name in sys.modules if name.startswith("absent_gl")]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("absent_gl")


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    """4D-Humans itself, or a package under it; only PHALP's own detectors get the hint to do without them."""
    script = tmp_path / "track.py"
    monkeypatch.setitem(sys.modules, "hmr2.models.hmr2", None)

    with pytest.raises(EngineMissing, match="UPSTREAM_DETECTOR=native needs neither; see docs"):
        shims.import_official(script, with_detectron=True)
    with pytest.raises(EngineMissing, match="cannot be imported") as raised:
        shims.import_official(script, with_detectron=False)
    assert "UPSTREAM_DETECTOR" not in str(raised.value)
    monkeypatch.setitem(sys.modules, "hmr2", None)
    with pytest.raises(EngineMissing, match=r"docs/13-engines\.md"):
        shims.import_official(None, with_detectron=False)


def test_transformers_does_not_take_a_stand_in_for_torchvision():
    """It remembers its first answer, and would import its torchvision parts for our own detector."""
    there = importlib.util.find_spec("torchvision") is not None
    is_torchvision_available.cache_clear()

    with shims.imports_without(shims.OF_DETECTORS):
        importlib.import_module("torchvision.transforms")
        assert is_torchvision_available() == there
    assert is_torchvision_available() == there


def test_a_script_that_is_not_there_is_named(tmp_path, monkeypatch):
    """4D-Humans' setup.py does not install track.py; the message says how to name it."""
    package = tmp_path / "hmr2"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "hmr2", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(EngineMissing, match="UPSTREAM_SCRIPT"):
        shims.import_official(None, with_detectron=False)


def test_cuda_calls_stay_on_the_cpu_in_this_thread_only():
    """`.cuda()` of tensors and networks leads to the chosen device while the context is open."""
    elsewhere: list[bool] = []
    stack = torch.overrides._get_current_function_mode_stack

    with shims.on_device(torch.device("cpu")):
        assert torch.zeros(2).cuda().device.type == "cpu"
        assert next(nn.Linear(2, 2).cuda().parameters()).device.type == "cpu"
        thread = threading.Thread(target=lambda: elsewhere.append(bool(stack())))
        thread.start()
        thread.join()

    assert elsewhere == [False]
    assert not stack()


def test_a_bare_network_takes_parts_from_outside():
    """Without the constructor, submodules and buffers can be set."""

    class Greedy(nn.Module):
        def __init__(self) -> None:
            raise AssertionError("downloads")

    module = shims.bare(Greedy)
    module.part = nn.Linear(2, 2)

    assert len(list(module.parameters())) == 2
