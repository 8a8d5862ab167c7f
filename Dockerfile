# syntax=docker/dockerfile:1
# The worker's image; docs/12-image.md says how to build, check and re-pin it.

# Tag for people, digest for the machine: the digest is what is pulled.
ARG PYTHON_IMAGE=python:3.11.16-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b
# none | folder | fetch: the stage below that fills /models.
ARG WEIGHTS=none


# ---- Everything is installed here; only /opt/venv leaves this stage.
FROM ${PYTHON_IMAGE} AS build
WORKDIR /src

COPY locks/tools.txt locks/
RUN python -m venv /opt/tools \
 && /opt/tools/bin/python -m pip install --no-cache-dir --require-hashes --no-deps --only-binary :all: -r locks/tools.txt
ENV PATH=/opt/tools/bin:${PATH} \
    VIRTUAL_ENV=/opt/venv \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_COMPILE_BYTECODE=1
RUN uv venv --quiet /opt/venv

# cu128 | cpu: which build of torch; each has a locks/torch-*.txt and a locks/cuda-*.txt.
ARG TORCH=cu128
# Where that one wheel comes from: PyTorch's own index, or a mirror as `--index URL`.
ARG TORCH_SOURCE=--torch-backend=${TORCH}
COPY locks/ locks/
# TORCH_SOURCE may be several words.
# hadolint ignore=SC2086
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-deps --require-hashes --no-build ${TORCH_SOURCE} -r "locks/torch-${TORCH}.txt"
# A step of its own: torch, the largest, stays when only other locks change.
# hadolint ignore=DL3059
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-deps --require-hashes --no-build -r "locks/cuda-${TORCH}.txt" -r locks/image.txt

COPY pyproject.toml README.md LICENSE ./
COPY handler/ handler/
COPY model_cache/ model_cache/
COPY ops/ ops/
RUN python -m pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
 && uv pip install --no-index --no-deps /dist/*.whl \
 && uv pip check


# ---- Weights, one of three ways. An image that holds the SMPL body must never be published: its licence.
FROM ${PYTHON_IMAGE} AS weights-none
RUN mkdir /models

# A converted store, from a named context: docker build --build-arg WEIGHTS=folder --build-context store=FOLDER .
FROM weights-none AS weights-folder
# hadolint ignore=DL3022
COPY --from=store / /models/

# From their sources: docker build --build-arg WEIGHTS=fetch --secret id=weights,src=FILE .
# FILE has lines NAME='value' of the settings WEIGHTS_*; none of it stays in any layer.
FROM build AS weights-fetch
# bf16 is half the size, and what GPUs compute in; fp32 also runs on a CPU.
ARG PRECISION=bf16
RUN --mount=type=secret,id=weights,required=true \
    set -a && . /run/secrets/weights && set +a \
 && export MODEL_STORE=/models \
 && /opt/venv/bin/python -m handler weights fetch --precision "${PRECISION}" --discard-official \
 && /opt/venv/bin/python -m handler weights verify

# hadolint ignore=DL3006
FROM weights-${WEIGHTS} AS weights


# ---- What runs.
FROM ${PYTHON_IMAGE} AS runtime
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tini=0.19.* \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 1000 --create-home --shell /usr/sbin/nologin worker
COPY --from=build /opt/venv /opt/venv
COPY --from=weights /models /models

# Nothing is fetched at run time but the jobs' videos. The driver's video part decodes, its utility part
# lets RunPod's SDK see the GPU. Without expandable segments, batches of changing size fragment GPU memory.
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    RUNPOD_LOG_LEVEL=INFO \
    RUNPOD_MIN_CUDA_VERSION=12.8 \
    MODELS=official \
    MODEL_STORE=/models

ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="hmr2-phalp-worker" \
      org.opencontainers.image.description="RunPod Serverless worker: video of people in, tracked 3D human motion out" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}"

USER 1000:1000
WORKDIR /home/worker
# A worker has no port to ask: it checks itself before its first job, then sends RunPod a heartbeat.
HEALTHCHECK NONE
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "handler", "worker"]
