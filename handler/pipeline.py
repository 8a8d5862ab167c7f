"""One job from URL to stored results: the stages wired left to right, each a generator the next one pulls.

Decoding and perception run ahead in threads of their own, by a bounded number of frames and batches;
tracking, writing and uploading happen in the caller's thread. Whatever fails, an exit stack closes what is
open, from the writer back to the decoder.
"""

import math
import resource
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

from handler.context import JobContext
from handler.errors import Stage
from handler.job import Options, Reply
from handler.people.perceive import perceive, perception_options
from handler.people.shots import detect_shots
from handler.people.track import follow, track, tracker_options
from handler.read_ahead import ReadAhead
from handler.records import Frame, PeopleInFrame, TrackedFrame, VideoFacts, Warn
from handler.results.document import Timing
from handler.results.overlay import overlay
from handler.results.store import LocalFile, local_file
from handler.results.summarise import summarise
from handler.results.upload import commit, find_complete, open_store, upload
from handler.results.write import Written, write, write_document
from handler.settings import Settings
from handler.source.decode import DecodeReport, decode, frames_ahead
from handler.source.download import Source, download, local_source
from handler.source.probe import check_part, probe
from handler.stage_timer import StageTimer
from model_cache.interfaces import Models

Item = TypeVar("Item")

TRUNCATING = ("VIDEO_CUT_OFF", "VIDEO_ENDED_EARLY")  # warnings that mean: frames are missing at the end


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRun:
    """A job without a queue: results go to a folder, and what an earlier run left there is replaced.

    Attributes:
        out: the folder.
        video: a file to read instead of the request's URL.
    """

    out: Path
    video: Path | None = None


def run(work: JobContext, models: Models, settings: Settings, local: LocalRun | None = None) -> Reply:
    """Do one job.

    Memory: `decode_queue_frames` frames, one batch of frames, `perceive_ahead_batches` batches of people,
    the live tracks, one line of results. The video and the results are on disk, in the job's folder.

    Args:
        work: the job.
        models: what the worker has loaded; nothing of the job stays there.
        settings: limits.
        local: for a job that comes from the command line.

    Raises:
        JobError: with its stage.
    """
    stages = StageTimer()
    models.peak_device_bytes()  # counts from here
    check, options, folder = work.control.check, work.request.options, work.folder
    with stages.stage("validate"):
        store = open_store(
            work.request.output,
            work.job_id,
            bucket=settings.bucket,
            intake=settings.intake,
            folder=local.out if local else None,
        )
    with stages.stage("upload"):
        found = find_complete(
            store, job_id=work.job_id, input_sha256=work.input_sha256, into=folder, check=check
        )
    if found is not None:
        return found
    source = _fetch(work, settings, stages, local)
    _begin(work, "probe")
    with stages.stage("probe"):
        facts = probe(source.path, settings.intake, sha256=source.sha256, check=check)
        check_part(facts, settings.intake, start_s=options.start_s, end_s=options.end_s)
    written, decoding = _follow(facts, work, models, settings, stages)
    files = _files(facts, written, work, models, settings, stages)
    _begin(work, "upload")
    with stages.stage("upload"):
        artifacts = upload(store, files, check=check, seconds=settings.bucket.upload_seconds)
    warnings = (*facts.warnings, *decoding.warnings)
    document = summarise(
        job_id=work.job_id,
        input_sha256=work.input_sha256,
        options=options,
        facts=facts,
        written=written,
        models=models.description,
        timing=_timing(stages, written, models),
        warnings=decoding.warnings,
        artifacts=artifacts,
        truncated=None if decoding.reached_end else _truncated(warnings),
    )
    with stages.stage("upload"):
        return commit(store, document, into=folder, check=check, seconds=settings.bucket.upload_seconds)


def _begin(work: JobContext, stage: Stage) -> None:
    """Say that a stage begins, unless the job must end."""
    work.report.stage(stage)
    work.control.check()


def _fetch(work: JobContext, settings: Settings, stages: StageTimer, local: LocalRun | None) -> Source:
    _begin(work, "download")
    with stages.stage("download"):
        if local is not None and local.video is not None:
            return local_source(local.video, settings.intake)
        return download(
            work.request.video_url.get_secret_value(),
            work.folder,
            settings.intake,
            check=work.control.check,
        )


def _follow(
    facts: VideoFacts, work: JobContext, models: Models, settings: Settings, stages: StageTimer
) -> tuple[Written, DecodeReport]:
    """From the file to written frames, everything overlapping."""
    options, limits = work.request.options, settings.worker
    decoding = DecodeReport()
    _begin(work, "decode")
    with ExitStack() as stack:
        frames = _decoded(stack, facts, work, settings, stages, decoding)
        batches = perceive(
            stages.each("track", detect_shots(frames)) if options.tracking.detect_shots else frames,
            models.perception,
            perception_options(options),
            batch_frames=min(limits.batch_frames, models.most_frames or limits.batch_frames),
            clear_cache=models.clear_cache,
            clear_every_frames=settings.clear_cache.every_frames,
            check=work.control.check,
        )
        ahead = _run_ahead(stack, stages, "perceive", batches, limits.perceive_ahead_batches)
        tracked = stages.each("track", _identify(chain.from_iterable(ahead), models, options))
        stack.enter_context(closing(tracked))
        counted = work.report.count(work.control.watch(tracked), _expected_frames(facts, options))
        with stages.stage("write"):
            written = write(
                counted, options=options, body=models.body, into=work.folder, check=work.control.check
            )
    return written, decoding


def _run_ahead(
    stack: ExitStack, stages: StageTimer, name: Stage, items: Iterator[Item], depth: int
) -> Iterator[Item]:
    """The items, made by a stage in a thread of its own that ends with the stack, whoever failed."""
    ahead = stack.enter_context(ReadAhead(stages.each(name, items), depth=depth, name=name))
    return stages.waiting(name, ahead)


def _decoded(
    stack: ExitStack,
    facts: VideoFacts,
    work: JobContext,
    settings: Settings,
    stages: StageTimer,
    decoding: DecodeReport,
) -> Iterator[Frame]:
    """The job's frames."""
    options = work.request.options
    frames = decode(
        facts,
        settings.intake,
        start_s=options.start_s,
        end_s=options.end_s,
        stride=options.stride,
        check=work.control.check,
        report=decoding,
    )
    depth = frames_ahead(facts, settings.worker.decode_queue_frames)
    return _run_ahead(stack, stages, "decode", frames, depth)


def _identify(people: Iterator[PeopleInFrame], models: Models, options: Options) -> Iterator[TrackedFrame]:
    """Identities by our tracker, or by the engine's own if it has one."""
    tracker = models.begin_tracking(tracker_options(options.tracking))
    if tracker is not None:
        return follow(people, tracker, options.tracking.n_init)
    return track(people, models.texture, models.pose_predictor, options.tracking)


def _files(
    facts: VideoFacts,
    written: Written,
    work: JobContext,
    models: Models,
    settings: Settings,
    stages: StageTimer,
) -> list[LocalFile]:
    """Every artifact but the summary."""
    options, folder, check = work.request.options, work.folder, work.control.check
    with stages.stage("write"):
        files = [local_file("frames.jsonl.gz", written.frames_path, check)]
        if "frames.json" in options.artifacts:
            path = write_document(written, options=options, job_id=work.job_id, into=folder, check=check)
            files.append(local_file("frames.json", path, check))
    if "overlay.mp4" in options.artifacts:
        _begin(work, "overlay")
        with ExitStack() as stack, stages.stage("overlay"):
            path = overlay(
                _decoded(stack, facts, work, settings, stages, DecodeReport()),
                written.frames_path,
                options=options,
                facts=facts,
                body=models.body,
                into=folder,
                num_frames=written.span.frames,
                check=check,
            )
            files.append(local_file("overlay.mp4", path, check))
    return files


def _expected_frames(facts: VideoFacts, options: Options) -> int | None:
    """How many frames the job will keep, as far as the header can be trusted."""
    if facts.num_frames_estimate is None:
        return None
    share = 1.0
    if facts.duration_seconds:
        end = min(options.end_s or facts.duration_seconds, facts.duration_seconds)
        share = max(end - options.start_s, 0.0) / facts.duration_seconds
    return math.ceil(facts.num_frames_estimate * share / options.stride)


def _timing(stages: StageTimer, written: Written, models: Models) -> Timing:
    total = stages.total_seconds()
    return Timing(
        total_s=round(total, 3),
        fps=round(written.span.frames / max(total, 1e-6), 2),
        stages_s=stages.seconds(),
        peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        peak_device_bytes=models.peak_device_bytes(),
    )


def _truncated(warnings: Iterable[Warn]) -> str | None:
    return next((warn.message for warn in warnings if warn.code in TRUNCATING), None)
