# One image for every stage, for the orchestrating flow, the worker and the Prefect server.
#
#   docker build -t cyborgs .                                              a processor or a GPU: torch brings its own CUDA
#   docker build -t cyborgs --build-arg UID=$(id -u) --build-arg GID=$(id -g) .          files on the host belong to you
#   docker build -t cyborgs --build-arg BASE_IMAGE=nvidia/cuda:13.0.1-base-ubuntu24.04 . a CUDA base, where policy asks for one
#
# Behind a proxy or a mirror, secrets that no layer keeps: --secret id=pip.conf,src=FILE --secret id=ca,src=BUNDLE.pem
ARG BASE_IMAGE=python:3.11-slim

FROM ${BASE_IMAGE} AS base
# tini becomes PID 1: it hands signals on and buries orphans. A base without Python gets the distribution's.
RUN missing=""; \
    command -v tini > /dev/null || missing="tini"; \
    command -v python3 > /dev/null || missing="$missing python3 python3-venv"; \
    if [ -n "$missing" ]; then \
      apt-get update && apt-get install --yes --no-install-recommends $missing && rm -rf /var/lib/apt/lists/*; \
    fi

FROM base AS requirements
COPY pyproject.toml .
RUN python3 -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = p["optional-dependencies"]; \
print(*p["dependencies"], *extras["containers"], *extras["s3"], "setuptools", sep="\n")' > /requirements.txt

FROM base AS dependencies
WORKDIR /build
# The list alone: a layer of gigabytes stays as it is until what the code needs has changed.
COPY --from=requirements /requirements.txt .
COPY constraints.txt .
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca,target=/etc/ssl/build-ca.pem \
    --mount=type=cache,target=/root/.cache/pip \
    if [ -f /etc/ssl/build-ca.pem ]; then export PIP_CERT=/etc/ssl/build-ca.pem; fi; \
    python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --disable-pip-version-check --constraint constraints.txt --requirement requirements.txt

# Not copied out of that stage: it would write those gigabytes a second time.
FROM dependencies
ARG UID=1000
ARG GID=1000
# Any user may be set when a container starts, so what has to be writable is writable for all. HOME and /tmp are made
# tmpfs by the job template: the root file system stays read-only.
RUN (getent group ${GID} > /dev/null || groupadd --gid ${GID} cyborgs) \
    && (getent passwd ${UID} > /dev/null || useradd --no-create-home --uid ${UID} --gid ${GID} --home-dir /home/cyborgs cyborgs) \
    && install --directory --mode 1777 /home/cyborgs /storage /cache \
    && install --directory /data
COPY . /opt/cyborgs
RUN /opt/venv/bin/pip install --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation \
      --editable /opt/cyborgs \
    && /opt/venv/bin/python -m compileall -q /opt/cyborgs
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/home/cyborgs \
    PREFECT_HOME=/home/cyborgs/.prefect \
    CYBORGS_STORAGE=/storage \
    CYBORGS_CACHE=/cache \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    DO_NOT_TRACK=1
WORKDIR /opt/cyborgs
USER ${UID}:${GID}
ENTRYPOINT ["tini", "--"]
CMD ["cyborgs", "--help"]
