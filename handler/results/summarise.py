"""The summary document and the reply from what a job has gathered."""

from collections.abc import Iterable

import orjson

from handler.job import Artifact, JobWarning, Options, Reply
from handler.records import VideoFacts, Warn
from handler.results.document import (
    Conventions,
    ModelFileInfo,
    ModelsInfo,
    Processed,
    ResultDocument,
    Source,
    Timing,
)
from handler.results.write import Written
from model_cache.interfaces import ModelsDescription

MAX_BYTES = 100_000  # a browser or a queue can take it whole
MAX_WARNINGS = 50
MAX_MESSAGE_LENGTH = 300
WARNING_BYTES = 1000  # room for the one that says what was left out
MAX_REPLY_WARNINGS = 20


def summarise(
    *,
    job_id: str,
    input_sha256: str,
    options: Options,
    facts: VideoFacts,
    written: Written,
    models: ModelsDescription,
    timing: Timing,
    warnings: Iterable[Warn],
    artifacts: tuple[Artifact, ...],
    truncated: str | None = None,
) -> ResultDocument:
    """The document of a finished job, below `MAX_BYTES` as JSON.

    Args:
        job_id: as the platform gave it.
        input_sha256: hash of the job's input.
        options: the job's options.
        facts: what the probe found.
        written: what `write` gave.
        models: what made the numbers.
        timing: where the time went.
        warnings: of every stage but the writing.
        artifacts: the files that are already there.
        truncated: why the file ended early, if it did.
    """
    span = written.span
    all_warnings = [_warning(warn) for warn in (*facts.warnings, *warnings, *written.warnings)]
    document = ResultDocument(
        job_id=job_id,
        input_sha256=input_sha256,
        options=options,
        source=Source(
            width=facts.width,
            height=facts.height,
            rotation_deg=facts.rotation_degrees,
            container=facts.container,
            codec=facts.codec,
            time_base=f"{facts.time_base.numerator}/{facts.time_base.denominator}",
            avg_fps=facts.average_fps,
            is_vfr=span.is_vfr,
            is_hdr=facts.is_hdr,
            duration_s=facts.duration_seconds,
            frames_decoded=span.last_source_index + 1,
            bytes=facts.size_bytes,
            sha256=facts.sha256,
        ),
        processed=Processed(
            frames=span.frames,
            start_s=round(span.start_s, 6),
            end_s=round(span.end_s, 6),
            duration_s=round(span.duration_s, 6),
            stride=options.stride,
            profile=options.profile,
            truncated=truncated is not None,
            reason=truncated,
        ),
        conventions=Conventions.of(options.profile),
        camera=written.camera,
        models=_models(models),
        tracks=written.tracks,
        tracks_omitted=written.quality.id_births - len(written.tracks),
        quality=written.quality,
        timing=timing,
        warnings=_capped(all_warnings),
        artifacts=artifacts,
    )
    return _fitted(document)


def document_bytes(document: ResultDocument) -> bytes:
    """The document as indented JSON."""
    return orjson.dumps(document.model_dump(mode="json", by_alias=True), option=orjson.OPT_INDENT_2)


def reply_of(
    document: ResultDocument, *, bucket: str | None, artifacts: tuple[Artifact, ...], reused: bool = False
) -> Reply:
    """What the caller gets: pointers to every artifact and the head of the summary.

    Args:
        document: the summary.
        bucket: where the files are; None for presigned uploads and folders.
        artifacts: every file, `result.json` included.
        reused: nothing was computed, an earlier result was there.
    """
    return Reply(
        job_id=document.job_id,
        bucket=bucket,
        artifacts=artifacts,
        frames=document.processed.frames,
        people=document.quality.id_births,
        duration_s=document.processed.duration_s,
        fps=document.timing.fps,
        models=document.models.models,
        warnings=document.warnings[:MAX_REPLY_WARNINGS],
        reused=reused,
    )


def _warning(warn: Warn) -> JobWarning:
    return JobWarning(code=warn.code, message=warn.message[:MAX_MESSAGE_LENGTH], frame=warn.frame_index)


def _capped(warnings: list[JobWarning]) -> tuple[JobWarning, ...]:
    if len(warnings) <= MAX_WARNINGS:
        return tuple(warnings)
    left_out = len(warnings) - MAX_WARNINGS + 1
    more = JobWarning(code="WARNINGS_OMITTED", message=f"{left_out} more warnings are not listed")
    return (*warnings[: MAX_WARNINGS - 1], more)


def _models(models: ModelsDescription) -> ModelsInfo:
    files = tuple(ModelFileInfo(role=file.role, name=file.name, sha256=file.sha256) for file in models.files)
    return ModelsInfo(
        models=models.models,
        engine=models.engine,
        detector=models.detector,
        backbone=models.backbone,
        body_model=models.body_model,
        precision=models.precision,
        device=models.device,
        files=files,
        notice=models.notice,
    )


def _fitted(document: ResultDocument) -> ResultDocument:
    """The document with as many of the longest tracks as fit, and a warning if some do not."""
    tracks = document.tracks
    while len(document_bytes(document)) > MAX_BYTES - WARNING_BYTES and tracks:
        longest = sorted(tracks, key=lambda track: (-track.n_tracked, track.track_id))
        kept = {track.track_id for track in longest[: len(tracks) // 2]}
        tracks = tuple(track for track in tracks if track.track_id in kept)
        document = document.model_copy(
            update={"tracks": tracks, "tracks_omitted": document.quality.id_births - len(tracks)}
        )
    if not document.tracks_omitted:
        return document
    message = f"{document.tracks_omitted} shorter tracks are not listed here; all are in the frames"
    warning = JobWarning(code="TRACKS_OMITTED", message=message)
    return document.model_copy(update={"warnings": (*document.warnings, warning)})
