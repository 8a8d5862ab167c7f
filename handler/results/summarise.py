"""The summary document and the reply from what a job has gathered."""

from collections.abc import Iterable

import orjson

from handler.job import Artifact, JobWarning, Options, Reply
from handler.records import VideoFacts, Warn
from handler.results.document import (
    Conventions,
    ModelsInfo,
    Processed,
    ResultDocument,
    Source,
    Timing,
)
from handler.results.write import Written
from model_cache.interfaces import ModelsDescription

# With `statistics.MAX_TRACKS` these keep result.json below 100 kB: a browser or a queue can take it whole.
MAX_WARNINGS = 50
MAX_MESSAGE_LENGTH = 300
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
    """The document of a finished job whose `artifacts` are already there.

    `warnings` are those of every stage but the probe and the writing, which are in `facts` and `written`;
    `truncated` says why the video ended early, if it did.
    """
    span = written.span
    tracks_omitted = written.quality.id_births - len(written.tracks)
    return ResultDocument(
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
        models=ModelsInfo.model_validate(models, from_attributes=True),
        tracks=written.tracks,
        tracks_omitted=tracks_omitted,
        quality=written.quality,
        timing=timing,
        warnings=_warnings([*facts.warnings, *warnings, *written.warnings], tracks_omitted),
        artifacts=artifacts,
    )


def _warnings(warns: list[Warn], tracks_omitted: int) -> tuple[JobWarning, ...]:
    """The warnings as they are written, as many as may be, and what is left out beside them."""
    if len(warns) > MAX_WARNINGS:
        left_out = len(warns) - MAX_WARNINGS + 1
        more = Warn(code="WARNINGS_OMITTED", message=f"{left_out} more warnings are not listed")
        warns = [*warns[: MAX_WARNINGS - 1], more]
    if tracks_omitted:
        message = f"{tracks_omitted} shorter tracks are not listed here; all are in the frames"
        warns = [*warns, Warn(code="TRACKS_OMITTED", message=message)]
    return tuple(
        JobWarning(code=warn.code, message=warn.message[:MAX_MESSAGE_LENGTH], frame=warn.frame_index)
        for warn in warns
    )


def document_bytes(document: ResultDocument) -> bytes:
    """The document as indented JSON."""
    return orjson.dumps(document.model_dump(mode="json", by_alias=True), option=orjson.OPT_INDENT_2)


def reply_of(
    document: ResultDocument, *, bucket: str | None, artifacts: tuple[Artifact, ...], reused: bool = False
) -> Reply:
    """What the caller gets: where every file is, `result.json` included, and the head of the summary."""
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
