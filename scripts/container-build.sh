#!/bin/sh
# The steps that build the container image, run by the Dockerfile and by scripts/container-test.sh.
#
#   container-build.sh packages    a virtual environment with the locked packages, each checked by its hash
#   container-build.sh program     gcsam-med itself, built from the source beside this script
#
# Works in any root that has Python 3.11 or newer with venv. TARGET says where the environment goes.
set -eu

TARGET=${TARGET:-/opt/gcsam-med}
SOURCE=$(cd "$(dirname "$0")/.." && pwd)
BUILD=/tmp/gcsam-med-build

install_packages() {
    python3 -m venv "$TARGET"
    "$TARGET/bin/python" -m pip install --no-cache-dir --require-hashes --only-binary :all: \
        --requirement "$SOURCE/requirements.lock"
}

install_program() {
    # The build tool is needed here only, so it stays out of the image.
    python3 -m venv "$BUILD"
    "$BUILD/bin/python" -m pip install --no-cache-dir --require-hashes --only-binary :all: \
        --requirement "$SOURCE/requirements-build.lock"
    "$BUILD/bin/python" -m pip wheel --no-deps --no-build-isolation --wheel-dir "$BUILD/wheels" "$SOURCE"
    # From here on with the build's pip: nobody installs anything into a finished image, so it has none.
    into_target="$BUILD/bin/python -m pip --python $TARGET/bin/python"
    $into_target install --no-cache-dir --no-deps --no-index --force-reinstall "$BUILD"/wheels/*.whl
    $into_target check
    if "$TARGET/bin/python" -c 'import pip' 2>/dev/null; then
        $into_target uninstall --yes --quiet pip
    fi
    "$TARGET/bin/gcsam-med" --version
    rm -rf "$BUILD"
}

case "${1:-}" in
packages) install_packages ;;
program) install_program ;;
*)
    echo "usage: container-build.sh packages|program" >&2
    exit 2
    ;;
esac
