"""One job from URL to stored results: the stages wired left to right, each a generator the next one pulls.

Decoding and perception run ahead in threads of their own, by a bounded number of frames and batches;
tracking, writing and uploading happen in the caller's thread. Whatever fails, an exit stack closes what is
open, from the writer back to the decoder.
"""

import math
import resource
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
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
from handler.read_ahead import read_ahead
from handler.records import Frame, PeopleInFrame, TrackedFrame, VideoFacts
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
    """A job without a queue: results go to the folder `out`, replacing those of an earlier run."""

    out: Path
    video: Path | None = None  # a file to read instead of the request's URL


def run(work: JobContext, models: Models, settings: Settings, local: LocalRun | None = None) -> Reply:
    """Do one job.

    Nothing of it stays in the models. Memory: `decode_queue_frames` frames, one batch of frames,
    `perceive_ahead_batches` batches of people, the live tracks, one line of results. The video and the
    results are on disk, in the job's folder.

    Raises:
        JobError: with its stage.
    """
    return _Run(work, models, settings).reply(local)


class _Run:
    """The stages of one job, with what all of them use."""

    def __init__(self, work: JobContext, models: Models, settings: Settings) -> None:
        self.work, self.models, self.settings = work, models, settings
        self.options, self.folder, self.check = work.request.options, work.folder, work.control.check
        self.timer = StageTimer()

    def reply(self, local: LocalRun | None) -> Reply:
        work, settings, timer, check = self.work, self.settings, self.timer, self.check
        with timer.stage("validate"):
            self.models.peak_device_bytes()  # counts from here
            store = open_store(
                work.request.output,
                work.job_id,
                bucket=settings.bucket,
                intake=settings.intake,
                folder=local.out if local else None,
            )
        with timer.stage("upload"):
            found = find_complete(
                store, job_id=work.job_id, input_sha256=work.input_sha256, into=self.folder, check=check
            )
        if found is not None:
            return found
        with self.stage("download"):
            source = self.fetch(local)
        with self.stage("probe"):
            facts = probe(source.path, settings.intake, sha256=source.sha256, check=check)
            check_part(facts, settings.intake, start_s=self.options.start_s, end_s=self.options.end_s)
        decoding = DecodeReport()
        written = self.follow(facts, decoding)
        files = self.files(facts, written)
        with self.stage("upload"):
            artifacts = upload(store, files, check=check, seconds=settings.bucket.upload_seconds)
        with timer.stage("upload"):
            document = summarise(
                job_id=work.job_id,
                input_sha256=work.input_sha256,
                options=self.options,
                facts=facts,
                written=written,
                models=self.models.description,
                timing=self.timing(written.span.frames),
                warnings=decoding.warnings,
                artifacts=artifacts,
                truncated=None if decoding.reached_end else _truncated(facts, decoding),
            )
            return commit(
                store, document, into=self.folder, check=check, seconds=settings.bucket.upload_seconds
            )

    @contextmanager
    def stage(self, name: Stage) -> Iterator[None]:
        """A stage that is reported, timed, and not begun if the job must end."""
        with self.timer.stage(name):
            self.work.report.stage(name)
            self.check()
            yield

    def fetch(self, local: LocalRun | None) -> Source:
        """The video on this machine."""
        if local is not None and local.video is not None:
            return local_source(local.video, self.settings.intake)
        url = self.work.request.video_url.get_secret_value()
        return download(url, self.folder, self.settings.intake, check=self.check)

    def follow(self, facts: VideoFacts, decoding: DecodeReport) -> Written:
        """From the file to written frames, everything overlapping."""
        options, models, limits = self.options, self.models, self.settings.worker
        self.work.report.stage("decode")
        with ExitStack() as stack:
            frames = self.decoded(stack, facts, decoding)
            batches = perceive(
                self.timer.each("track", detect_shots(frames)) if options.tracking.detect_shots else frames,
                models.perception,
                perception_options(options),
                batch_frames=min(limits.batch_frames, models.most_frames or limits.batch_frames),
                clear_cache=models.clear_cache,
                clear_every_frames=self.settings.clear_cache.every_frames,
                check=self.check,
            )
            ahead = self.run_ahead(stack, "perceive", batches, limits.perceive_ahead_batches)
            tracked = self.timer.each("track", self.identify(chain.from_iterable(ahead)))
            stack.enter_context(closing(tracked))
            counted = self.work.report.count(
                self.work.control.watch(tracked), _expected_frames(facts, options)
            )
            with self.timer.stage("write"):
                return write(counted, options=options, body=models.body, into=self.folder, check=self.check)

    def run_ahead(self, stack: ExitStack, name: Stage, items: Iterator[Item], depth: int) -> Iterator[Item]:
        """The items, made by a stage in a thread of its own that ends with the stack, whatever fails."""
        ahead = stack.enter_context(read_ahead(self.timer.each(name, items), depth=depth, name=name))
        return self.timer.each(name, ahead, counts=False)  # waiting does not count as work

    def decoded(self, stack: ExitStack, facts: VideoFacts, report: DecodeReport) -> Iterator[Frame]:
        """The job's frames."""
        options = self.options
        frames = decode(
            facts,
            self.settings.intake,
            start_s=options.start_s,
            end_s=options.end_s,
            stride=options.stride,
            check=self.check,
            report=report,
        )
        depth = frames_ahead(facts, self.settings.worker.decode_queue_frames)
        return self.run_ahead(stack, "decode", frames, depth)

    def identify(self, people: Iterator[PeopleInFrame]) -> Iterator[TrackedFrame]:
        """Identities by our tracker, or by the engine's own if it has one."""
        options, models = self.options.tracking, self.models
        if tracker := models.begin_tracking(tracker_options(options)):
            return follow(people, tracker, options.n_init)
        return track(people, models.texture, models.pose_predictor, options)

    def files(self, facts: VideoFacts, written: Written) -> list[LocalFile]:
        """Every artifact but the summary."""
        options, folder, check = self.options, self.folder, self.check
        with self.timer.stage("write"):
            files = [local_file("frames.jsonl.gz", written.frames_path, check)]
            if "frames.json" in options.artifacts:
                path = write_document(
                    written, options=options, job_id=self.work.job_id, into=folder, check=check
                )
                files.append(local_file("frames.json", path, check))
        if "overlay.mp4" in options.artifacts:
            with ExitStack() as stack, self.stage("overlay"):
                path = overlay(
                    self.decoded(stack, facts, DecodeReport()),
                    written.frames_path,
                    options=options,
                    facts=facts,
                    body=self.models.body,
                    into=folder,
                    num_frames=written.span.frames,
                    check=check,
                )
                files.append(local_file("overlay.mp4", path, check))
        return files

    def timing(self, num_frames: int) -> Timing:
        """What the job has cost so far."""
        total = self.timer.total_seconds()
        return Timing(
            total_s=round(total, 3),
            fps=round(num_frames / max(total, 1e-6), 2),
            stages_s=self.timer.seconds(),
            peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            peak_device_bytes=self.models.peak_device_bytes(),
        )


def _expected_frames(facts: VideoFacts, options: Options) -> int | None:
    """How many frames the job will keep, as far as the header can be trusted."""
    if facts.num_frames_estimate is None:
        return None
    share = 1.0
    if facts.duration_seconds:
        end = min(options.end_s or facts.duration_seconds, facts.duration_seconds)
        share = max(end - options.start_s, 0.0) / facts.duration_seconds
    return math.ceil(facts.num_frames_estimate * share / options.stride)


def _truncated(facts: VideoFacts, decoding: DecodeReport) -> str | None:
    """Why frames are missing at the end, if they are."""
    warnings = (*facts.warnings, *decoding.warnings)
    return next((warn.message for warn in warnings if warn.code in TRUNCATING), None)
