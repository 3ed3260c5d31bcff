# FlowGRPO Studio as an image. docs/guide/container.md says how to build and start it; `make image` replays
# these steps without Docker, in a clean root.
#
#     docker build --tag flowgrpo-studio .                               # for CPUs
#     docker build --tag flowgrpo-studio --build-arg TORCH_INDEX= .      # for NVIDIA GPUs

# Pinned by tag. Who wants the very same bytes again adds the digest that `docker pull` prints: NAME:TAG@sha256:...
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm

FROM ${PYTHON_IMAGE} AS packages
# Where torch and torchvision come from. Empty: from where all the rest does, which on Linux are the builds for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /srv/venv
COPY requirements.txt /srv/build/
# torch alone, from its own index; the second step finds it there and leaves it be. A change of our code repeats neither.
RUN grep -E '^torch(vision)?[<>=]' /srv/build/requirements.txt > /srv/build/torch.txt \
    && /srv/venv/bin/pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} -r /srv/build/torch.txt
# What was installed stays readable in the image, for who has to know: packages.txt
RUN /srv/venv/bin/pip install --no-cache-dir -r /srv/build/requirements.txt \
    && /srv/venv/bin/pip check \
    && /srv/venv/bin/pip freeze > /srv/venv/packages.txt

FROM ${PYTHON_IMAGE} AS studio
# tini is process 1: it hands signals on and buries what the studio's runs leave behind. The user has a fixed number, so
# that folders of the host can be given to it, and owns nothing but /data.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/apt /var/log/dpkg.log \
    && groupadd --gid 10001 studio \
    && useradd --uid 10001 --gid studio --home-dir /data --no-create-home --no-log-init \
        --shell /usr/sbin/nologin studio \
    && install --directory --owner=studio --group=studio --mode=0700 /data /data/studio /data/models
COPY --from=packages /srv/venv /srv/venv
WORKDIR /srv/flowgrpo-studio
COPY LICENSE NOTICE app.py ./
COPY configs configs
COPY storage storage
COPY flowgrpo flowgrpo
COPY ui ui
# Nothing can be compiled later, when the root is read-only
RUN python -m compileall -q --invalidation-mode unchecked-hash app.py storage flowgrpo ui

# HOME has the caches of libraries. The public address is the one of `docker run --publish 127.0.0.1:7860:7860`: it makes
# the studio demand accounts, print the link of the first admin, and answer to no other name.
ENV PATH=/srv/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/data \
    HF_HOME=/data/models \
    FLOWGRPO_HOME=/data/studio \
    FLOWGRPO_PUBLIC_URL=http://127.0.0.1:7860 \
    GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860
ARG REVISION=unknown
LABEL org.opencontainers.image.title="FlowGRPO Studio" \
    org.opencontainers.image.description="Tune a text-to-image model to a taste, in the browser" \
    org.opencontainers.image.version="0.1.0" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
VOLUME ["/data"]
EXPOSE 7860
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-m", "flowgrpo.runs.healthcheck"]
ENTRYPOINT ["/usr/bin/tini", "--", "python", "app.py"]
CMD ["serve"]
