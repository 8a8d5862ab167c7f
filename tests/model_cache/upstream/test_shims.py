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
    """4D-Humans, its script, a package under it; only PHALP's detectors get the hint to do without them."""
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
    monkeypatch.delitem(sys.modules, "hmr2")
    (tmp_path / "hmr2").mkdir()
    (tmp_path / "hmr2" / "__init__.py").touch()  # its setup.py does not install track.py
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(EngineMissing, match="UPSTREAM_SCRIPT"):
        shims.import_official(None, with_detectron=False)


def test_transformers_does_not_take_a_stand_in_for_torchvision():
    """It remembers its first answer, and would import its torchvision parts for our own detector."""
    there = importlib.util.find_spec("torchvision") is not None
    is_torchvision_available.cache_clear()

    with shims.imports_without(shims.OF_DETECTORS):
        importlib.import_module("torchvision.transforms")
        assert is_torchvision_available() == there
    assert is_torchvision_available() == there


def cuda_leads_to() -> str:
    """Where `.cuda()` takes a tensor; "cuda" also where there is none."""
    try:
        return torch.zeros(2).cuda().device.type
    except (AssertionError, RuntimeError):  # "Torch not compiled with CUDA enabled", no driver
        return "cuda"


def test_cuda_calls_lead_to_the_device_in_this_thread_only():
    """`.cuda()` of tensors and networks leads to the chosen device inside the block."""
    elsewhere: list[str] = []

    with shims.on_device(torch.device("cpu")):
        assert cuda_leads_to() == "cpu"
        assert next(nn.Linear(2, 2).cuda().parameters()).device.type == "cpu"
        thread = threading.Thread(target=lambda: elsewhere.append(cuda_leads_to()))
        thread.start()
        thread.join()

    assert elsewhere == ["cuda"]
    assert cuda_leads_to() == "cuda"


def test_a_bare_network_takes_parts_from_outside():
    """Without the constructor, submodules and buffers can be set."""

    class Greedy(nn.Module):
        def __init__(self) -> None:
            raise AssertionError("downloads")

    module = shims.bare(Greedy)
    module.part = nn.Linear(2, 2)

    assert len(list(module.parameters())) == 2
