# idsnn in a container, on the CPU or on NVIDIA's GPUs; docs/install.md says how it is used.
#
#   docker build -t idsnn .                               for the CPU
#   docker build -t idsnn --build-arg TORCH=cu130 .       for GPUs: any of uv's names of CUDA builds
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
# cpu, or cu and the version of CUDA: what `uv pip install --torch-backend` takes.
ARG TORCH=cpu
# Of pyproject.toml, with commas.
ARG EXTRAS=fast
RUN pip install --no-cache-dir "uv>=0.9,<1"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY recipes ./recipes
COPY idsnn_cli ./idsnn_cli
RUN uv venv --python "$(command -v python)" /opt/idsnn \
    && uv pip install --no-cache --python /opt/idsnn --torch-backend "${TORCH}" ".[${EXTRAS}]"

FROM python:${PYTHON}-slim
ARG TORCH=cpu
# Triton compiles its kernels for a GPU when they are first used, with a C compiler.
# hadolint ignore=DL3008
RUN if [ "${TORCH}" != cpu ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*; \
    fi \
    && useradd --uid 1000 idsnn \
    && install --directory --owner=idsnn /work
COPY --from=build /opt/idsnn /opt/idsnn
# Data sets and downloads stay in the folder that is mounted, also for a user of another number.
ENV PATH=/opt/idsnn/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOME=/work \
    XDG_CACHE_HOME=/work/.cache \
    TORCH_HOME=/work/.cache/torch
USER 1000
WORKDIR /work
ENTRYPOINT ["idsnn"]
CMD ["--help"]
