"""Wrong requests, and the exact sentences that their authors get."""

import re
from typing import Any

import pytest

from handler.errors import InputError
from handler.handler import parse

VIDEO = {"video_url": "https://store.example/clip.mp4?X-Signature=s3cret"}
FILES = {
    "result.json": "https://store.example/r?X-Signature=s3cret",
    "frames.jsonl.gz": "https://store.example/f?X-Signature=s3cret",
}


def options(**given: Any) -> dict[str, Any]:
    """A request that is right but for its options."""
    return {**VIDEO, "options": given}


def tracking(**given: Any) -> dict[str, Any]:
    """A request that is right but for PHALP's options."""
    return options(tracking={name.replace("__", "."): value for name, value in given.items()})


def output(**given: Any) -> dict[str, Any]:
    """A request that is right but for the place of its results."""
    return {**VIDEO, "output": given}


WRONG: list[tuple[object, str]] = [
    (None, 'input must be an object, such as {"video_url": "https://..."}'),
    ([VIDEO], 'input must be an object, such as {"video_url": "https://..."}'),
    ({}, "video_url is missing"),
    ({"video_url": 5}, 'video_url must be text, such as "https://..."'),
    ({"video_url": ""}, 'video_url is not valid; an example: "https://..."'),
    ({"vido_url": "s3cret"}, "video_url is missing; vido_url is not known; did you mean video_url?"),
    ({**VIDEO, "stride": 2}, "stride is not known; did you mean options.stride?"),
    ({**VIDEO, "webhook": "https://a"}, "webhook is not known; there are video_url, output, options"),
    ({**VIDEO, "options": 5}, 'options must be an object, such as {"stride": 2}'),
    (options(strid=2), "options.strid is not known; did you mean options.stride?"),
    (options(n_init=3), "options.n_init is not known; did you mean options.tracking.phalp.n_init?"),
    (options(stride="two"), "options.stride must be a whole number"),
    (options(stride=0), "options.stride must be at least 1"),
    (options(stride=2.5), "options.stride must be a whole number"),
    (options(stride=5000), "options.stride must be at most 1000"),
    (options(start_s=-1), "options.start_s must be at least 0"),
    (options(start_s=5, end_s=2), "options.end_s must be more than options.start_s"),
    (options(end_s="soon"), "options.end_s must be a number"),
    (options(end_s=0), "options.end_s must be more than 0"),
    (options(max_people=0), "options.max_people must be at least 1"),
    (options(camera=500), 'options.camera must be an object, such as {"fx": 1500}'),
    (options(camera={}), "options.camera.fx is missing"),
    (options(camera={"fx": -1}), "options.camera.fx must be more than 0"),
    (options(camera={"fx": 900, "k1": 0.1}), "options.camera.k1 is not known; there are fx, fy, cx, cy"),
    (options(artifacts="overlay.mp4"), 'options.artifacts must be a list, such as ["overlay.mp4"]'),
    (options(artifacts=["overlay.avi"]), "options.artifacts may hold frames.json or overlay.mp4"),
    (options(masks=True), "options.masks needs the profile full"),
    (options(masks="perhaps"), "options.masks must be true or false"),
    (options(profile="ful"), "options.profile must be params, standard or full"),
    (options(overlay_style="dots"), "options.overlay_style must be mesh or skeleton"),
    (options(person={}), "options.person must have either a point or a box"),
    (options(person={"point": [960]}), "options.person.point is not valid; an example: [960, 540]"),
    (options(person={"point": [1, 2, 3]}), "options.person.point is not valid; an example: [960, 540]"),
    (options(person={"point": "1,2"}), "options.person.point must be a list, such as [960, 540]"),
    (
        options(person={"box": [1, 2, 3, "x"]}),
        "options.person.box is not valid; an example: [800, 200, 1100, 900]",
    ),
    (tracking(n_init=0), "options.tracking.n_init must be at least 1"),
    (
        tracking(phalp__n_init=0, phalp__predict="PT"),
        "options.tracking.phalp.n_init must be at least 1; "
        "options.tracking.phalp.predict must be TPL, TP, TL or T",
    ),
    (
        tracking(phalp__max_age=3),
        "options.tracking.phalp.max_age is not known; did you mean options.tracking.phalp.max_age_track?",
    ),
    (tracking(phalp__alpha=2), "options.tracking.phalp.alpha must be at most 1"),
    ({**VIDEO, "output": "s3://s3cret"}, 'output must be an object, such as {"prefix": "clips"}'),
    (output(bucket="a"), "output.bucket must have at least 3 characters"),
    (output(prefix="x" * 600), "output.prefix must have at most 512 characters"),
    (output(puturls=FILES), "output.puturls is not known; did you mean output.put_urls?"),
    (
        output(put_urls=list(FILES.values())),
        "output.put_urls must be an object, such as "
        '{"result.json": "https://...", "frames.jsonl.gz": "https://..."}',
    ),
    (output(put_urls={"result.json": "https://s3cret"}), "output.put_urls.frames.jsonl.gz is missing"),
    (output(put_urls={**FILES, "overlay.mp4": 5}), "output.put_urls.overlay.mp4 must be text"),
    (
        output(put_urls={**FILES, "overlay.avi": "https://s3cret"}),
        "output.put_urls.overlay.avi is not known; did you mean output.put_urls.overlay.mp4?",
    ),
    (output(put_urls=FILES, bucket="clips"), "output.bucket cannot be combined with the others beside it"),
    (
        {**output(put_urls=FILES), "options": {"artifacts": ["overlay.mp4"]}},
        "output.put_urls needs a URL for overlay.mp4 too, which options.artifacts asks for",
    ),
    (
        {"options": {"stride": 0, "profile": "x"}, "output": {"bucket": "a"}},
        "video_url is missing; output.bucket must have at least 3 characters; "
        "options.stride must be at least 1; options.profile must be params, standard or full",
    ),
    ({**VIDEO, "x" * 5000: 1}, f"{'x' * 64} is not known; there are video_url, output, options"),
]


@pytest.mark.parametrize(("request_", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_a_wrong_request_is_answered_in_the_callers_words(request_: object, message: str):
    """Its own names, all problems at once, an example or the nearest name; never a value."""
    with pytest.raises(InputError) as refused:
        parse({"id": "a", "input": request_})

    assert refused.value.message == message
    assert not re.search(
        r"s3cret|\bstr\b|\bint\b|\bdict\b|tuple|pydantic|validator|Output\b|\[key\]", message
    )


def test_many_problems_are_cut_short():
    """Ten are told, and how many there are besides."""
    with pytest.raises(InputError) as refused:
        parse({"id": "a", "input": {**VIDEO, **{f"name{index}": 1 for index in range(30)}}})

    assert refused.value.message.count(" is not known") == 10
    assert refused.value.message.endswith("; and 20 more problems")
