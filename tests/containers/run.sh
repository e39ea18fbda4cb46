#!/usr/bin/env bash
# `make test-containers`: gets a Docker engine, builds the image, and runs tests/containers on it.
#
# An engine that answers is used as it is. Where there is none, Debian's packages give one (as root), with all that it
# keeps below CYBORGS_ENGINE_ROOT (a temporary folder by default; name one to keep layers between two runs).
# Where no registry is reached, the base image is made from Debian's packages too.
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=${PYTHON:-.venv/bin/python}

step_name="" step_started=$SECONDS
step() {
  [ -z "$step_name" ] || echo "== $step_name: $(((SECONDS - step_started) / 60)) min $(((SECONDS - step_started) % 60)) s"
  step_name=$1 step_started=$SECONDS
  [ -z "$1" ] || echo "== $1"
}

stop_engine() {
  [ ! -f "$ENGINE/dockerd.pid" ] || { kill "$(cat "$ENGINE/dockerd.pid")" && tail --pid="$(cat "$ENGINE/dockerd.pid")" -f /dev/null; } 2> /dev/null || true
  [ -n "${CYBORGS_ENGINE_ROOT:-}" ] || rm -rf "$ENGINE"
}

# The client's own builder needs no plugin up to version 22; later ones need buildx.
can_build() { "$1" buildx version > /dev/null 2>&1 || "$1" --version 2> /dev/null | grep -qE 'version (1[89]|2[0-2])\.'; }

step "an engine"
ENGINE=${CYBORGS_ENGINE_ROOT:-$(mktemp -d)}
mkdir -p "$ENGINE"
if ! docker info > /dev/null 2>&1; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "no Docker engine answers, and one can be installed here only as root on Debian or Ubuntu" >&2
    exit 2
  fi
  if ! command -v dockerd > /dev/null || ! command -v docker-compose > /dev/null || ! command -v debootstrap > /dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends \
      docker.io docker-compose debootstrap iptables > "$ENGINE/apt.log" || { cat "$ENGINE/apt.log"; exit 1; }
  fi
  export DOCKER_HOST=unix://$ENGINE/docker.sock
  trap stop_engine EXIT
  dockerd --data-root "$ENGINE/data" --exec-root "$ENGINE/exec" --host "$DOCKER_HOST" --pidfile "$ENGINE/dockerd.pid" \
    > "$ENGINE/dockerd.log" 2>&1 &
  for _ in $(seq 60); do docker info > /dev/null 2>&1 && break || sleep 1; done
  docker info > /dev/null || { tail -20 "$ENGINE/dockerd.log"; exit 1; }
fi
for DOCKER in docker /usr/bin/docker; do can_build "$DOCKER" && break; done
can_build "$DOCKER" || { echo "docker build needs the plugin buildx" >&2; exit 2; }

if docker compose version > /dev/null 2>&1; then COMPOSE="docker compose"; else COMPOSE=docker-compose; fi
$COMPOSE version > /dev/null || { echo "neither docker compose nor docker-compose is installed" >&2; exit 2; }
export COMPOSE

step "base image"
BASE_IMAGE=${BASE_IMAGE:-python:3.11-slim}
if ! "$DOCKER" image inspect "$BASE_IMAGE" > /dev/null 2>&1 && ! timeout 60 "$DOCKER" pull --quiet "$BASE_IMAGE" 2> /dev/null; then
  BASE_IMAGE=cyborgs-test-base:bookworm
  if ! "$DOCKER" image inspect "$BASE_IMAGE" > /dev/null 2>&1; then
    rootfs=$(mktemp -d)
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$rootfs" > "$ENGINE/debootstrap.log" \
      || { tail "$ENGINE/debootstrap.log"; exit 1; }
    tar -C "$rootfs" -c . | "$DOCKER" import - "$BASE_IMAGE" > /dev/null
    rm -rf "$rootfs"
  fi
fi
echo "$BASE_IMAGE"

step "image"
secrets=()
[ ! -f /etc/pip.conf ] || secrets+=(--secret id=pip.conf,src=/etc/pip.conf)
ca=${PIP_CERT:-${SSL_CERT_FILE:-}}
[ -z "$ca" ] || secrets+=(--secret "id=ca,src=$ca")
export CYBORGS_IMAGE=cyborgs-test:latest DOCKER_BUILDKIT=1
"$DOCKER" build --quiet --network host --build-arg BASE_IMAGE="$BASE_IMAGE" \
  --build-arg UID=1234 --build-arg GID=1234 "${secrets[@]}" --tag "$CYBORGS_IMAGE" .

step "image of PostgreSQL"
export POSTGRES_IMAGE=${POSTGRES_IMAGE:-cyborgs-test-postgres:latest}
[ "$POSTGRES_IMAGE" != cyborgs-test-postgres:latest ] || "$DOCKER" build --quiet --network host \
  --build-arg BASE_IMAGE="$BASE_IMAGE" --tag "$POSTGRES_IMAGE" tests/containers/postgres

step "tests"
DOCKER=$DOCKER "$PYTHON" -m pytest -m containers --durations=0 --durations-min=1 "$@"
step ""
echo "== in all: $((SECONDS / 60)) min $((SECONDS % 60)) s"
