"""Detectors: RF-DETR-Seg of a tiny random size, recorded detections, and how a name becomes a detector."""

import shutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import RfDetrForInstanceSegmentation
from transformers.utils import logging

import model_cache.load
from model_cache.errors import ModelOutputInvalid, UnknownModel, WeightsInvalid, WeightsMissing
from model_cache.networks.detector import Detections, NumpyDetector, ReplayDetector, load_detector
from model_cache.networks.rf_detr import RfDetrSegDetector, load_rf_detr
from model_cache.registry import DETECTORS, LoadOptions, check_detector
from model_cache.settings import ModelSettings
from tests.model_cache.rf_detr_network import SIDE, tiny_config


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder in the hub's layout."""
    logging.disable_progress_bar()
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("rf-detr")
    RfDetrForInstanceSegmentation(tiny_config()).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def detector(folder: Path) -> RfDetrSegDetector:
    """The tiny detector."""
    return load(folder)


def load(folder: Path, *, score_floor: float = 0.0, precision: str = "fp32") -> RfDetrSegDetector:
    """The detector of a folder; random scores are near 0.01, so by default nothing is cut."""
    place = {"name": folder.name, "store": folder.parent}
    return load_rf_detr(LoadOptions(**place, precision=precision, score_floor=score_floor))


def frames(count: int, *, height: int = 90, width: int = 160) -> list[torch.Tensor]:
    """Random upright frames."""
    generator = torch.Generator().manual_seed(height)
    shape = (height, width, 3)
    return [torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator) for _ in range(count)]


def test_rf_detr_gives_the_networks_own_boxes_scores_and_masks(detector, folder):
    """Boxes, person scores and masks are those of the plain network on a plainly prepared image."""
    frame = frames(1)[0]
    network = RfDetrForInstanceSegmentation.from_pretrained(folder).eval()
    rgb = frame.flip(-1).permute(2, 0, 1)[None] / 255
    square = torch.nn.functional.interpolate(rgb, (SIDE, SIDE), mode="bilinear", antialias=True)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    with torch.inference_mode():
        output = network(pixel_values=(square - mean) / std)
    person = output.logits[0, :, 1].sigmoid()
    best = int(person.argmax())
    cx, cy, w, h = output.pred_boxes[0, best].tolist()
    mask = torch.nn.functional.interpolate(output.pred_masks[:, best : best + 1], (90, 160), mode="bilinear")

    found = detector.detect([frame], [0])[0]

    assert len(found.scores) == 20
    assert torch.equal(found.scores.sort(descending=True).values, found.scores)
    assert found.scores[0].item() == pytest.approx(person.max().item(), abs=1e-6)
    expected = [(cx - w / 2) * 160, (cy - h / 2) * 90, (cx + w / 2) * 160, (cy + h / 2) * 90]
    assert found.bbox_xyxy[0].tolist() == pytest.approx(expected, abs=1e-3)
    assert torch.equal(mask[0, 0] > 0, found.paint_masks(torch.tensor([0]))[0])


def test_rf_detr_keeps_only_people_above_the_floor(folder):
    """Nothing at or below the score floor leaves the detector, and nobody is a valid answer."""
    found = load(folder, score_floor=0.9).detect(frames(1), [0])[0]

    assert found.scores.shape == (0,)
    assert found.paint_masks(torch.zeros(0, dtype=torch.int64)).shape == (0, 90, 160)


def test_rf_detr_batch_equals_single_frames(detector):
    """A batch of frames of different sizes gives what each frame gives alone."""
    batch = frames(2) + frames(1, height=120, width=64)

    together = detector.detect(batch, [0, 1, 2])

    for frame, found in zip(batch, together, strict=True):
        alone = detector.detect([frame], [0])[0]
        assert torch.allclose(alone.scores, found.scores, atol=1e-5)
        assert torch.allclose(alone.bbox_xyxy[0], found.bbox_xyxy[0], atol=1e-2)


def test_warm_up_paints_masks_though_nobody_passes_the_threshold(folder, monkeypatch):
    """The first person of a job must not meet code that never ran: warm-up paints whoever is likeliest."""
    strict = load(folder, score_floor=0.99)
    sizes, real = [], torch.nn.functional.interpolate

    def interpolate(image, size, **more):
        sizes.append(tuple(size))
        return real(image, size, **more)

    monkeypatch.setattr(torch.nn.functional, "interpolate", interpolate)

    strict.detect(frames(2), [0, 1])
    assert (90, 160) not in sizes
    strict.warm_up(frames(2))

    assert sizes.count((90, 160)) == 2


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "a tensor"])
def test_loading_a_detector_names_what_is_missing(folder, tmp_path, missing):
    """A missing file is named; a file that lacks tensors is refused instead of being filled at random."""
    shutil.copytree(folder, tmp_path / "checkpoint", ignore=shutil.ignore_patterns(missing))
    if missing == "a tensor":
        tensors = load_file(folder / "model.safetensors")
        del tensors[min(tensors)]
        save_file(tensors, tmp_path / "checkpoint" / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises((WeightsMissing, WeightsInvalid), match=missing.replace("a tensor", "lacks weights")):
        load(tmp_path / "checkpoint")


def test_replay_gives_each_frame_its_own_people():
    """A recorded frame gives its people, any other frame nobody, and masks only of the rows asked for."""
    masks = np.zeros((2, 90, 160), bool)
    masks[0, :10], masks[1, 50:] = True, True
    people = Detections(
        bbox_xyxy=np.array([[0, 0, 50, 10], [0, 50, 160, 90]], np.float32),
        scores=np.array([0.9, 0.95], np.float32),
        masks=masks,
    )
    replay = ReplayDetector({7: people})

    nobody, both = replay.detect(frames(2), [6, 7])

    assert len(nobody.scores) == 0
    assert both.scores.tolist() == pytest.approx([0.9, 0.95])
    assert torch.equal(torch.from_numpy(masks[1:]), both.paint_masks(torch.tensor([1])))


@pytest.mark.parametrize("name", ["rf-detr-seg-nano", "my-own-people"])
def test_rf_detr_is_loaded_by_its_name(folder, tmp_path, name):
    """A registered size and a folder of one's own, both below the store, are the same kind of checkpoint."""
    shutil.copytree(folder, tmp_path / name)
    check_detector(name, tmp_path)

    detector = load_detector(LoadOptions(name=name, store=tmp_path))

    assert isinstance(detector, RfDetrSegDetector)
    assert detector.weights == {name: tmp_path / name / "model.safetensors"}


def test_every_registered_loader_can_be_imported():
    """The registry names code that is there."""
    for entry in DETECTORS.values():
        module, attribute = entry.loader.split(":")
        assert callable(getattr(import_module(module), attribute))


def test_a_name_that_means_nothing_is_answered_with_the_names_that_do(tmp_path):
    """A typing error never becomes a download or another detector."""
    with pytest.raises(UnknownModel) as caught:
        model_cache.load.load(ModelSettings(models="lite", detector="rf-detr-seg-huge", model_store=tmp_path))

    assert all(name in str(caught.value) for name in ("DETECTOR=rf-detr-seg-huge", *DETECTORS))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no_such_package.people:Finder", "No module named 'no_such_package'"),
        ("numpy:NoSuchDetector", "NoSuchDetector"),
        ("builtins:repr", "gives a str; it must derive from Detector or NumpyDetector"),
    ],
)
def test_a_detector_of_ones_own_that_cannot_be_used_is_named(name, said):
    """The message repeats the setting and says what is wrong with it."""
    with pytest.raises(UnknownModel, match=f"DETECTOR={name}") as caught:
        load_detector(LoadOptions(name=name, store=Path()))

    assert said in str(caught.value)


class Says(NumpyDetector):
    """Says the same about every image."""

    def __init__(self, found: Detections) -> None:
        self.found = found

    def find(self, image_bgr, frame_index):
        return self.found


def test_without_masks_the_box_is_the_person():
    """Pixels whose centre is in the box; float64 boxes are as good as float32 ones."""
    found = Detections(bbox_xyxy=np.array([[10.4, -5, 20.6, 30], [0, 0, 1, 1]]), scores=np.array([0.9, 0.8]))

    (candidates,) = Says(found).detect(frames(1), [0])

    mask = candidates.paint_masks(torch.tensor([0]))[0]
    assert candidates.bbox_xyxy.dtype == torch.float32
    assert mask[:30, 10:21].all()
    assert int(mask.sum()) == 30 * 11


@pytest.mark.parametrize(
    ("boxes", "masks", "said"),
    [((2, 4), (2, 5, 5), "masks of shape"), ((1, 4), (2, 90, 160), "bbox_xyxy"), ((2, 5), None, "bbox_xyxy")],
)
def test_arrays_that_do_not_fit_are_named(boxes, masks, said, unchecked_types):
    """Masks of another size than the image, or boxes of another number than the scores, are refused."""
    found = Detections(
        bbox_xyxy=np.zeros(boxes, np.float32),
        scores=np.ones(2, np.float32),
        masks=None if masks is None else np.ones(masks, bool),
    )

    with pytest.raises(ModelOutputInvalid, match=f"Says gave {said}"):
        Says(found).detect(frames(1), [0])
