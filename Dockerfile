# gcsam-med for a GPU (PyTorch's CUDA libraries come with its wheels) or a CPU. Every step of the build stands in
# scripts/, so that `make docker-steps` can run the same steps without a Docker engine.
ARG BASE=python:3.12-slim

FROM ${BASE} AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE requirements.lock requirements-build.lock ./
COPY scripts/container-build.sh scripts/container-build.sh
RUN scripts/container-build.sh packages
COPY gcsam_med gcsam_med
RUN scripts/container-build.sh program

FROM ${BASE}
LABEL org.opencontainers.image.title="gcsam-med" \
      org.opencontainers.image.description="Train and honestly evaluate networks on medical images with GCSAM" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/gcsam-med /opt/gcsam-med
# All that is written goes to mounts under /workspace or to /tmp, so the root may be read-only and the user anyone.
ENV PATH=/opt/gcsam-med/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=gcsam \
    XDG_CACHE_HOME=/tmp/cache \
    MPLCONFIGDIR=/tmp/cache/matplotlib \
    TORCH_HOME=/tmp/cache/torch \
    TORCHINDUCTOR_CACHE_DIR=/tmp/cache/inductor \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /workspace
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["gcsam-med"]
CMD ["--help"]
