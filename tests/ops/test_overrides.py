"""The words after `track`: what they set, and the exact sentences that wrong ones get."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from ops.overrides import UNSUPPORTED, WrongWords, local_path, option_names, parse_overrides, shown
from tests.handler.test_docs import rows

PAGE = "18-from-4d-humans.md"
NO_VIDEO = "no video is named; an example: track clip.mp4 --out out"
START = "does not exist here: give a time, frame / frames per second: frame 45 at 30 frames/s is start_s=1.5"
BOXES = "boxes are not read from files; a detector of your own gives them (docs/16-another-detector.md)"
YOUTUBE = (
    "YouTube's links lead to pages, not to videos; "
    'fetch it first, yt-dlp -f "bv[ext=mp4]" -o clip.mp4 LINK, and track clip.mp4'
)

WRONG: list[tuple[str, list[str]]] = [
    ("", [NO_VIDEO]),
    ("stride=2", [NO_VIDEO]),
    ("video.source= --out out", [NO_VIDEO]),
    ("video=clip.mp4", ["video is not known; did you mean video.source?", NO_VIDEO]),
    ("vidoe.source=clip.mp4", ["vidoe.source is not known; did you mean video.source?", NO_VIDEO]),
    (
        "clip.mp4 video.source=other.mp4",
        ["a command tracks one video (options are typed as in stride=2), not clip.mp4 and other.mp4"],
    ),
    (
        "clip.mp4 stride 2",
        ["a command tracks one video (options are typed as in stride=2), not clip.mp4 and stride and 2"],
    ),
    ("https://www.youtube.com/watch?v=xEH_5T9jMVU", [YOUTUBE]),
    ("video.source='\"https://youtu.be/xEH_5T9jMVU?t=s3cret\"'", [YOUTUBE]),
    (
        "tracks.pkl use_gt=True",
        [f"use_gt does not exist here: {BOXES}", f"a .pkl file is not a video; {BOXES}"],
    ),
    ("clip.mp4 strid=2", ["strid is not known; did you mean stride?"]),
    ("clip.mp4 --strid 2", ["--strid is not known; did you mean stride?"]),
    ("clip.mp4 --stride two", ["--stride must be a whole number"]),
    ("clip.mp4 --stride", ["--stride must be a whole number"]),
    ("clip.mp4 options.stride=0", ["options.stride must be at least 1"]),
    ("clip.mp4 stride=2 --stride 3", ["stride and --stride mean the same; give one of them"]),
    ("clip.mp4 --model lite", ["--model is not known; did you mean --models?"]),
    ("clip.mp4 output=out", ["output does not exist here: results go to a folder; --out says which"]),
    ("clip.mp4 fx=1500", ["fx is not known; did you mean camera.fx?"]),
    ("clip.mp4 camera=500", ["camera is set by its parts, such as camera.fx=500"]),
    ("clip.mp4 camera={", ["camera is set by its parts, such as camera.fx=1500"]),
    ("clip.mp4 camera.fy=500", ["camera.fx is missing"]),
    (
        "clip.mp4 camera.lens=wide",
        ["camera.lens is not known; there are camera.fx, camera.fy, camera.cx, camera.cy"],
    ),
    ("clip.mp4 person=1", ["person is set by its parts, such as person.point=960,540"]),
    ("clip.mp4 person.point=960", ["person.point is not valid; an example: person.point=960,540"]),
    ("clip.mp4 person.time_s=3", ["person must have either a point or a box"]),
    ("clip.mp4 masks=true", ["masks needs the profile full"]),
    ("clip.mp4 masks=perhaps", ["masks must be true or false"]),
    ("clip.mp4 profile=ful", ["profile must be params, standard or full"]),
    ("clip.mp4 artifacts=overlay.avi", ["artifacts may hold frames.json or overlay.mp4"]),
    ("clip.mp4 artifacts=[overlay.mp4", ["artifacts must be a list, such as artifacts=overlay.mp4"]),
    ("clip.mp4 detect_shots=maybe", ["detect_shots must be true or false"]),
    ("clip.mp4 video.end_time=soon", ["video.end_time must be a number"]),
    ("clip.mp4 start_s=2001-99-99", ["start_s must be a number"]),
    (
        "clip.mp4 video.start_time=5s video.end_time=2s",
        ["video.end_time must be more than video.start_time"],
    ),
    ("clip.mp4 fps=0", ["fps must be at least 0.01"]),
    ("clip.mp4 phalp.start_frame=45", [f"phalp.start_frame {START}"]),
    ("clip.mp4 start_frame=45", [f"start_frame {START}"]),
    (
        "clip.mp4 phalp.ninit=3 phalp.n_init=0 phalp.predict=PT",
        [
            "phalp.ninit is not known; did you mean phalp.n_init?",
            "phalp.n_init must be at least 1",
            "phalp.predict must be TPL, TP, TL or T",
        ],
    ),
    (
        "clip.mp4 device=cpu seed=3 render.type=HUMAN_MASK render.colors=slahmr +hydra.run.dir=x",
        [
            "device does not exist here: set MODEL_DEVICE in the environment, such as MODEL_DEVICE=cuda:0",
            "seed does not exist here: leave it out; nothing here is random",
            "render.type does not exist here: for an overlay, add artifacts=overlay.mp4, "
            "and overlay_style=skeleton if you like",
            "render.colors does not exist here: leave it out; the overlay has no such choice",
            "+hydra.run.dir does not exist here: leave it out; --out is the folder for the results",
        ],
    ),
]

# Every option of 4D-Humans' track.py (PHALP's configs/base.py).
OFFICIAL = """
video.source video.output_dir video.extract_video video.base_path video.start_frame video.end_frame
video.useffmpeg video.start_time video.end_time phalp.predict phalp.pose_distance phalp.distance_type
phalp.alpha phalp.low_th_c phalp.hungarian_th phalp.track_history phalp.max_age_track phalp.n_init
phalp.encode_type phalp.past_lookback phalp.detector phalp.shot phalp.start_frame phalp.end_frame
phalp.small_w phalp.small_h pose_predictor.config_path pose_predictor.weights_path
pose_predictor.mean_std ava_config.ava_labels_path ava_config.ava_class_mappping_path hmr.hmar_path
render.enable render.type render.up_scale render.res render.side_view_each render.metallicfactor
render.roughnessfactor render.colors render.head_mask render.head_mask_path render.output_resolution
render.fps render.blur_faces render.show_keypoints post_process.apply_smoothing
post_process.phalp_pkl_path post_process.save_fast_tracks SMPL.MODEL_PATH SMPL.GENDER SMPL.MODEL_TYPE
SMPL.NUM_BODY_JOINTS SMPL.JOINT_REGRESSOR_EXTRA SMPL.TEXTURE MODEL.IMAGE_SIZE MODEL.SMPL_HEAD.TYPE
MODEL.SMPL_HEAD.POOL MODEL.SMPL_HEAD.SMPL_MEAN_PARAMS MODEL.SMPL_HEAD.IN_CHANNELS MODEL.BACKBONE.TYPE
MODEL.BACKBONE.NUM_LAYERS MODEL.BACKBONE.MASK_TYPE MODEL.TRANSFORMER.HEADS MODEL.TRANSFORMER.LAYERS
MODEL.TRANSFORMER.BOX_FEATS MODEL.pose_transformer_size EXTRA.FOCAL_LENGTH seed track_dataset device
base_tracker train debug use_gt overwrite task_id num_tasks verbose detect_shots video_seq hmr_type
hydra.mode hydra.run.dir expand_bbox_shape
""".split()  # noqa: SIM905


def options(words: str) -> dict[str, Any]:
    """What a command sets besides its video."""
    return parse_overrides(["clip.mp4", *shlex.split(words)]).options.model_dump(exclude_defaults=True)


@pytest.mark.parametrize(("words", "sentences"), WRONG, ids=[words[:60] or "nothing" for words, _ in WRONG])
def test_wrong_words_are_answered_in_their_authors_words(words: str, sentences: list[str]) -> None:
    """All problems at once, by the names that were typed, with the nearest name, an example or what to do."""
    with pytest.raises(WrongWords) as refused:
        parse_overrides(shlex.split(words))

    assert list(refused.value.problems) == sentences
    assert not re.search(
        r"s3cret|\bstr\b|\bint\b|\bdict\b|tuple|pydantic|alidator|Options", str(refused.value)
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--stride 2", {"stride": 2}),
        ("--stride=2 --masks --profile full", {"stride": 2, "masks": True, "profile": "full"}),
        ("--include-predicted false --max_people 3", {"include_predicted": False, "max_people": 3}),
        ("options.stride=2 options.stride=3", {"stride": 3}),
        ("artifacts=overlay.mp4", {"artifacts": ("overlay.mp4",)}),
        ("artifacts=overlay.mp4,frames.json", {"artifacts": ("overlay.mp4", "frames.json")}),
        ("'artifacts=[\"overlay.mp4\"]' artifacts=", {}),
        ("camera.fx=1200 camera.cx=3", {"camera": {"fx": 1200.0, "cx": 3.0}}),
        ("'camera={fx: 1200}' camera.cx=3", {"camera": {"fx": 1200.0, "cx": 3.0}}),
        ("'person.point=[3, 4]' person.time_s=1", {"person": {"point": (3.0, 4.0), "time_s": 1.0}}),
        ("video.start_time=1s video.end_time=10s", {"start_s": 1.0, "end_s": 10.0}),
        ("start_s=1:30 end_s=null", {"start_s": 90.0}),
        ("detect_shots=True phalp.n_init=3", {"tracking": {"detect_shots": True, "n_init": 3}}),
        ("options.tracking.phalp.n_init=3", {"tracking": {"n_init": 3}}),
    ],
)
def test_right_words_set_options(words: str, expected: dict[str, Any]) -> None:
    """By our names and by 4D-Humans', with or without dashes, brackets and units."""
    assert options(words) == expected


def test_source_and_folder_are_named_in_several_ways() -> None:
    """As 4D-Humans does, as a job's request does, or bare; a path or URL may hold a =."""
    for words in ("video.source=a=b.mp4", "video_url=a=b.mp4", "./a=b.mp4 --masks=no"):
        assert parse_overrides(shlex.split(words)).source.endswith("a=b.mp4")
    assert parse_overrides(["a.mp4", "video.output_dir=results"]).out == "results"
    assert parse_overrides(["a.mp4"], Path("2026")).out == "2026"


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_option_of_4d_humans_has_a_meaning_or_a_reason(name: str) -> None:
    """None of them is merely unknown."""
    if name in option_names():
        return
    with pytest.raises(WrongWords) as refused:
        parse_overrides(["clip.mp4", f"{name}=1"])
    (sentence,) = refused.value.problems
    assert sentence.startswith(f"{name} does not exist here: ")


def test_the_page_says_what_the_command_says() -> None:
    """The tables of options hold every name of track.py, with its name here or its reason."""
    table = rows(PAGE)
    reasons = {name.removesuffix(".*"): cells[0] for name, cells in table.items() if len(cells) == 1}
    same = {
        name: cells[0].strip("`") for name, cells in table.items() if name in OFFICIAL and len(cells) == 2
    }

    names = option_names()
    assert {name: why for name, why in UNSUPPORTED.items() if name != "output"} == {
        name: reasons[name] for name in UNSUPPORTED if name != "output"
    }
    assert set(same) == {name for name in OFFICIAL if name in names}
    assert all(names[here.removeprefix("--")] == names[name] for name, here in same.items())
    assert {shown(path) for path in names.values()} >= {here for here in same.values() if "phalp" in here}


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        (r"C:\Users\me\my clips\a.mp4", "/mnt/c/Users/me/my clips/a.mp4"),
        ("d:/a.mp4", "/mnt/d/a.mp4"),
        (r"\\wsl$\Ubuntu\home\me\a.mp4", "/home/me/a.mp4"),
        (r"\\wsl.localhost\Ubuntu-22.04\home\me\a.mp4", "/home/me/a.mp4"),
        ("/mnt/c/a.mp4", "/mnt/c/a.mp4"),
        ("clips/a.mp4", "clips/a.mp4"),
    ],
)
def test_windows_paths_are_understood(typed: str, path: str) -> None:
    """A path copied from Windows' Explorer is the same file under WSL."""
    assert local_path(typed) == Path(path)
