#!/bin/sh
# Run the Dockerfile's own steps in a bare Debian root, without a Docker engine, and then the commands in it as
# the container would run them: read-only root, no network, no capabilities, a user without an account, 64 MB
# of shared memory, process number 1.
#
#   container-test.sh [--bind FOLDER]...    show FOLDER in the root while packages are installed (a wheel cache)
#
# Needs root, debootstrap and a network for the packages. ROOT is kept, so that a second run is quick.
# What it does not cover: Docker's own handling of layers, mounts and GPUs.
set -eu

HERE=$(cd "$(dirname "$0")/.." && pwd)
ROOT=${ROOT:-$HERE/build/container-root}
SUITE=${SUITE:-bookworm}
DOCKERFILE=$HERE/Dockerfile
OTHER_USER=12345
PASSED=0

say() { printf '\n== %s\n' "$*"; }
fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}

[ "$(id -u)" = 0 ] || fail "this needs root, for chroot and mounts"
for tool in debootstrap unshare chroot setpriv awk; do
    command -v "$tool" >/dev/null || fail "$tool is not installed (Debian: apt install debootstrap util-linux)"
done

# --- What the Dockerfile says
copied() { awk '/^COPY/ && !/--from/ { for (i = 2; i < NF; i++) print $i }' "$DOCKERFILE"; }
steps() { awk '/^RUN/ { sub(/^RUN /, ""); print }' "$DOCKERFILE"; }
environment() {
    awk '/^ENV/ { on = 1; sub(/^ENV /, "") } on { more = /\\$/; gsub(/^ +| *\\$/, ""); print; on = more }' "$DOCKERFILE"
}

# --- The root, as the base image gives it
base_root() {
    if [ ! -x "$ROOT/usr/bin/python3" ]; then
        say "debootstrap $SUITE into $ROOT"
        rm -rf "$ROOT"
        mkdir -p "$ROOT"
        debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$SUITE" "$ROOT" >/dev/null
    fi
    [ -z "${PIP_CERT:-}" ] || cp "$PIP_CERT" "$ROOT/$PIP_CERT"
    cp /etc/resolv.conf "$ROOT/etc/resolv.conf"
    mkdir -p "$ROOT/src" "$ROOT/workspace"
}

# Only what the Dockerfile copies enters the root.
copy_source() {
    rm -rf "$ROOT/src"
    mkdir -p "$ROOT/src"
    for path in $(copied); do
        (cd "$HERE" && tar --create --exclude=__pycache__ "$path") | tar --extract --no-same-owner --directory "$ROOT/src"
    done
}

# Runs in a mount namespace of its own, so nothing stays mounted, whatever happens.
build() {
    stamp=$ROOT/var/gcsam-med-built
    packages=$(sha256sum <"$HERE/requirements.lock")
    steps | while IFS= read -r step; do
        case $step in
        *packages) [ "$(cat "$stamp" 2>/dev/null)" != "$packages" ] || continue ;;
        esac
        say "RUN $step"
        # shellcheck disable=SC2016
        ROOT=$ROOT STEP=$step BINDS=$BINDS unshare --mount sh -eu -c '
            mount --make-rprivate /
            mount -t proc proc "$ROOT/proc"
            mount --rbind /dev "$ROOT/dev"
            for folder in $BINDS; do
                mkdir -p "$ROOT/$folder"
                mount --bind "$folder" "$ROOT/$folder"
            done
            exec chroot "$ROOT" sh -euc "cd /src; $STEP"'
        case $step in
        *packages) printf '%s' "$packages" >"$stamp" ;;
        esac
    done
}

# --- A command, as the container runs it; its process is number 1
contained() {
    # shellcheck disable=SC2016
    ROOT=$ROOT WORK=$WORK OTHER_USER=$OTHER_USER ENVIRONMENT=$(environment) \
        unshare --mount --net --pid --ipc --uts --fork sh -eu -c '
        mount --make-rprivate /
        mount --bind "$ROOT" "$ROOT"
        mount -t proc proc "$ROOT/proc"
        mount -t tmpfs -o mode=755 tmpfs "$ROOT/dev"
        for device in null zero full random urandom; do
            : >"$ROOT/dev/$device"
            mount --bind "/dev/$device" "$ROOT/dev/$device"
        done
        mkdir "$ROOT/dev/shm"
        mount -t tmpfs -o size=64m,mode=1777 tmpfs "$ROOT/dev/shm"
        mount -t tmpfs -o size=2g,mode=1777 tmpfs "$ROOT/tmp"
        mount --bind "$WORK" "$ROOT/workspace"
        mount -o remount,bind,ro "$ROOT"
        set -f
        # shellcheck disable=SC2086
        exec chroot "$ROOT" setpriv --reuid "$OTHER_USER" --regid "$OTHER_USER" --clear-groups \
            --inh-caps=-all --bounding-set=-all --no-new-privs \
            env -i --chdir=/workspace $ENVIRONMENT gcsam-med "$@"' contained "$@"
}

expect() {
    wanted=$1
    shift
    say "gcsam-med $*"
    got=0
    contained "$@" || got=$?
    [ "$got" = "$wanted" ] || fail "gcsam-med $1 ended with $got instead of $wanted"
    PASSED=$((PASSED + 1))
}

# The descendant that is number 1 in its own process namespace.
first_process() {
    process=$1
    until [ "$(awk '/^NSpid/ { print (NF > 2 ? $NF : 0) }' "/proc/$process/status")" = 1 ]; do
        process=$(cut -d ' ' -f 1 "/proc/$process/task/$process/children")
    done
    echo "$process"
}

# SIGTERM, as `docker stop` sends it, to process 1: a checkpoint, then 143.
expect_stop() {
    say "SIGTERM to: gcsam-med $*"
    contained "$@" &
    outer=$!
    tries=0
    until [ -s "$WORK/runs/stopped/history.csv" ]; do
        tries=$((tries + 1))
        [ "$tries" -lt 600 ] || fail "no first epoch within 5 minutes"
        kill -0 "$outer" 2>/dev/null || fail "training ended before it was stopped"
        sleep 0.5
    done
    first=$(first_process "$outer")
    kill -TERM "$first"
    (sleep 60 && kill -KILL "$first") 2>/dev/null &
    guard=$!
    got=0
    wait "$outer" || got=$?
    kill "$guard" 2>/dev/null || true
    [ "$got" = 143 ] || fail "SIGTERM ended training with $got instead of 143"
    [ -n "$(ls "$WORK/runs/stopped/checkpoints")" ] || fail "SIGTERM left no checkpoint"
    PASSED=$((PASSED + 1))
}

BINDS=
while [ $# -gt 0 ]; do
    case $1 in
    --bind)
        BINDS="$BINDS $2"
        shift 2
        ;;
    *) fail "unknown option $1" ;;
    esac
done

base_root
copy_source
build

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
chown "$OTHER_USER:$OTHER_USER" "$WORK"

expect 0 --version
expect 0 doctor
expect 0 prepare --dataset busi --demo --demo-cases 24 --size 64
expect 0 train --dataset busi --optimizer gcsam --epochs 1 --output runs/one
expect 0 evaluate runs/one --resamples 200
expect 0 predict runs/one 'data/demo/busi-24-0/Dataset_BUSI_with_GT/benign/benign (1).png' --output out
expect_stop train --dataset busi --optimizer gcsam --epochs 1000 --patience 0 \
    --output runs/stopped
expect 0 train --resume runs/stopped --max-minutes 0.05
expect 3 prepare --dataset busi --demo --demo-cases 3 --data-root /opt/data
say "$PASSED passed, 0 failed"
