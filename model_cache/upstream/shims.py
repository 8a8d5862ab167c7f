"""Everything done to the official packages so that they can be used here, each with its reason.

The packages' files stay as they are. Written against 4D-Humans 6ec79656 and PHALP 96f7e6c0. Places are named
as REPOSITORY: file.
"""

import importlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import structlog
import torch
from jaxtyping import Float32, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers.utils import is_torchvision_available

from model_cache.errors import EngineMissing
from model_cache.networks.depth import FOCAL_LENGTH_PX, MAP_SIZE, compiled_fill, depth_maps

log = structlog.get_logger(__name__)
IMAGE_SIZE = 256  # of HMR2's crop
DOCS = "see docs/13-engines.md"
# Imported by the official modules and never called on our way: pyrender opens EGL when it is imported
# (4D-Humans: hmr2/utils/renderer.py, PHALP: phalp/visualize/py_renderer.py), pytube downloads
# (PHALP: phalp/utils/io.py).
NEVER_USED = ("pyrender", "pytube")
# Needed by the official detectors alone (PHALP: phalp/trackers/PHALP.py, phalp/utils/utils_detectron2.py).
# detectron2 computes with torchvision; on our way without it torchvision is imported (by timm, 4D-Humans:
# hmr2/utils/mesh_renderer.py, PHALP: phalp/utils/io.py, phalp/visualize/visualizer.py) and never called.
OF_DETECTORS = ("detectron2", "torchvision")
DETECTORS_NEED = (
    "PHALP's own detectors need detectron2 and a torchvision of torch's own build, "
    "UPSTREAM_DETECTOR=native needs neither"
)
MODULES = {
    "hmr2": "hmr2.models.hmr2",
    "vit": "hmr2.models.backbones.vit",
    "hmr2_head": "hmr2.models.heads.smpl_head",
    "hmr2_body": "hmr2.models.smpl_wrapper",
    "hmar": "phalp.models.hmar.hmar",
    "encoding_head": "phalp.models.heads.encoding_head",
    "phalp_body": "phalp.utils.smpl_utils",
    "predictor": "phalp.models.predictor.pose_transformer_v2",
    "phalp": "phalp.trackers.PHALP",
    "metric": "phalp.external.deep_sort_.nn_matching",
    "tracker": "phalp.external.deep_sort_.tracker",
    "omegaconf": "omegaconf",  # which phalp reads its settings with
}


class Official(SimpleNamespace):
    """What is used of the official packages: the modules of `MODULES` under its names, and two more.

    `script` is 4D-Humans' `track.py`, `tracking_class` its `HMR2_4dhuman` with one correction.
    """


def import_official(script: Path | None, *, with_detectron: bool) -> Official:
    """Imports the official packages; nothing is downloaded and no display or EGL is opened.

    Args:
        script: 4D-Humans' `track.py`, which its setup.py does not install; None: it is looked for beside the
            package `hmr2`, where it lies in a checkout.
        with_detectron: whether one of the official detectors will be built.

    Raises:
        EngineMissing: a package or the script is missing or cannot be imported; the message says which.
    """
    absent = NEVER_USED if with_detectron else (*NEVER_USED, *OF_DETECTORS)
    try:
        with imports_without(absent):
            path = script.expanduser() if script else _script_beside_package()
            modules = {role: importlib.import_module(name) for role, name in MODULES.items()}
            loaded = _load_script(path)
    except EngineMissing:
        raise
    except Exception as error:
        reason = f"({type(error).__name__}: {error})"
        if with_detectron:
            reason += f"; {DETECTORS_NEED}"
        raise EngineMissing(f"the official packages cannot be imported {reason}; {DOCS}") from error
    return Official(**modules, script=loaded, tracking_class=_corrected(loaded.HMR2_4dhuman))


def bare(module_class: Any) -> Any:
    """A network without its official constructor, for `nn.Module`s whose parts are set from outside.

    `__init__` in 4D-Humans: track.py (HMR2Predictor, HMR2023TextureSampler), hmr2/models/hmr2.py (HMR2);
    PHALP: phalp/trackers/PHALP.py (PHALP), phalp/models/hmar/hmar.py (HMAR),
    phalp/models/predictor/pose_transformer_v2.py (Pose_transformer_v2). They fetch files with wget, unpack
    archives in a shell, open EGL, download an ImageNet ResNet-50 and build networks of 1 GB for nothing.
    """
    module = module_class.__new__(module_class)
    nn.Module.__init__(module)
    return module


class Settings(dict[str, Any]):
    """A mapping that the official networks may read like their own configuration objects."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """Where the official code's `.cuda()` leads to, in this thread, inside the block.

    It is written out in PHALP: phalp/trackers/PHALP.py (get_human_features, get_uv_distance),
    phalp/models/predictor/pose_transformer_v2.py (predict_next) and phalp/utils/utils_detectron2.py
    (DefaultPredictor_Lazy.__init__).
    """
    if device.type == "cuda":
        return torch.cuda.device(device)
    return _NoCuda(device) if device.type == "cpu" else nullcontext()


class _NoCuda(TorchFunctionMode):
    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.cuda:
            return args[0].to(self._device)
        return func(*args, **(kwargs or {}))


def depth_renderer(device: torch.device) -> Any:
    """neural_renderer as the official script sets it up, or our own rasteriser in its place.

    4D-Humans: track.py, HMR2023TextureSampler.__init__ and forward. neural_renderer is a CUDA extension that
    was written for old compilers: it cannot run on a CPU, and not everybody can build it for a GPU.
    """
    if device.type != "cuda":
        return OwnDepth(device)
    try:
        import neural_renderer  # type: ignore[import-not-found]  # a build of its own, see docs/13-engines.md
    except ImportError as error:
        log.warning("our own rasteriser stands in for neural_renderer", reason=str(error))
        return OwnDepth(device)
    return neural_renderer.Renderer(
        dist_coeffs=None,
        orig_size=IMAGE_SIZE,
        image_size=IMAGE_SIZE,
        light_intensity_ambient=1,
        light_intensity_directional=0,
        anti_aliasing=False,
    )


class OwnDepth:
    """Stands in for neural_renderer's depth mode with HMAR's camera, the only one it is called with."""

    def __init__(self, device: torch.device) -> None:
        self._fill = compiled_fill() if device.type == "cpu" else None

    def __call__(
        self,
        vertices: Float32[Tensor, "b v 3"],
        faces: Int[Tensor, "b f 3"],
        *,
        mode: str,
        K: Float32[Tensor, "1 3 3"],  # noqa: N803 - the official name
        R: Float32[Tensor, "1 3 3"],  # noqa: N803 - the official name
        t: Float32[Tensor, "1 3"],
    ) -> Float32[Tensor, "b 256 256"]:
        """Camera z of the nearest surface.

        Raises:
            ValueError: another camera or mode than HMAR's.
        """
        focal, centre = FOCAL_LENGTH_PX, MAP_SIZE / 2
        camera = torch.tensor([[focal, 0, centre], [0, focal, centre], [0, 0, 1]])
        same = torch.equal(K[0].cpu(), camera) and torch.equal(R[0].cpu(), torch.eye(3)) and not t.any()
        if mode != "depth" or not same:
            raise ValueError("only depth maps by HMAR's camera can be drawn here")
        return depth_maps(vertices, faces[0].long(), fill=self._fill)


def _corrected(tracking_class: Any) -> Any:
    """The official class, without its crash on long gaps."""

    class Corrected(tracking_class):  # type: ignore[misc]  # a class known at run time only
        def forward_for_tracking(self, vectors: list[Any], attibute: str = "A", time: Any = 1) -> Any:
            """Histories of more frames than the predictor has slots share the last slot.

            PHALP: phalp/models/predictor/pose_transformer_v2.py, predict_next: its `min(tensor, int)` then
            gives an int, and `.item()` of it ends the run with an AttributeError.
            """
            if attibute == "P":
                poses, data, times = vectors
                last_slot = self.pose_predictor.cfg.frame_length - 1
                vectors = [poses, data, np.minimum(times, times[..., :1] + last_slot)]
            return super().forward_for_tracking(vectors, attibute, time)

    return Corrected


def _script_beside_package() -> Path:
    package = find_spec("hmr2")
    if package is None or not package.submodule_search_locations:
        raise EngineMissing(f"the package `hmr2` (4D-Humans) is not installed; {DOCS}")
    path = Path(package.submodule_search_locations[0]).parent / "track.py"
    if not path.is_file():
        raise EngineMissing(
            "4D-Humans' track.py is not beside the package `hmr2` (its setup.py leaves it out): "
            f"name it by UPSTREAM_SCRIPT; {DOCS}"
        )
    return path


def _load_script(path: Path) -> ModuleType:
    """`track.py` as a module: its tracker and texture sampler are in no package."""
    spec = spec_from_file_location("hmr2_track_script", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise EngineMissing(f"UPSTREAM_SCRIPT: there is no {path.name} that can be imported; {DOCS}")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def imports_without(absent: Sequence[str]) -> Iterator[None]:
    """Stand-ins for `absent` packages, and no lasting change of global state by the imported modules.

    PHALP, while they are imported: phalp/trackers/PHALP.py and phalp/models/hmar/hmr.py silence all warnings;
    phalp/external/deep_sort_/tracker.py sets numpy's print options, and track.py beside it imports a
    namespace that scipy has deprecated.
    transformers remembers for good whether torchvision is there: it is asked before a stand-in is.
    """
    is_torchvision_available()
    finder = _StandIns(absent)
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if finder.stands_in_for(name)}
    sys.meta_path.insert(0, finder)
    try:
        with warnings.catch_warnings(), np.printoptions():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if finder.stands_in_for(name)]:
            del sys.modules[name]
        sys.modules.update(kept)


class _StandIns(MetaPathFinder, Loader):
    """Imports the named packages and anything below them as modules of placeholders."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)

    def stands_in_for(self, module: str) -> bool:
        return module.partition(".")[0] in self._names

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if self.stands_in_for(fullname) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        pass


def _placeholder(owner: object, name: str) -> Any:
    """Whatever is asked of a package that is not there."""
    if name.startswith("__"):
        raise AttributeError(name)
    if name == "register":  # detectron2's registries decorate classes
        return lambda: lambda registered: registered
    return _Placeholder(name, (), {})


class _StandIn(ModuleType):
    __getattr__ = _placeholder


class _Placeholder(type):
    """A class that can be named in annotations, derived from and used as a registry, but not made."""

    __getattr__ = _placeholder

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise EngineMissing(f"`{cls.__name__}` is of a package that this engine leaves out; {DOCS}")
