#!/bin/sh
# Pin the Dockerfile's base image by the digest that its tag has now. A digest is looked up, never made up.
set -eu

DOCKERFILE=$(cd "$(dirname "$0")/.." && pwd)/Dockerfile
base=$(sed -n 's/^ARG BASE=\([^@]*\).*/\1/p' "$DOCKERFILE")
digest=$(docker buildx imagetools inspect "$base" --format '{{.Manifest.Digest}}') || {
    echo "The digest of $base cannot be looked up: this needs Docker with buildx, and a network." >&2
    exit 3
}
case $digest in
sha256:*) ;;
*)
    echo "Expected a sha256 digest of $base, got: $digest" >&2
    exit 3
    ;;
esac
sed -i.former "s|^ARG BASE=.*|ARG BASE=$base@$digest|" "$DOCKERFILE"
rm -f "$DOCKERFILE.former"
echo "Pinned: $base@$digest"
