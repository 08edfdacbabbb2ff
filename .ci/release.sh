#!/usr/bin/env bash
# Makes all that is released into dist/, from the commit that is checked out (docs/how-to/release.md).
#   .ci/release.sh TOOLS
# TOOLS is a folder with the programs that `make release` installs for this. It fails where a package
# has a licence that is not in .ci/licences.txt.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022 # the modes of files are part of the wheel
tools=$(realpath "$1")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$work/source python=$work/venv/bin/python
[[ -z $(git status --porcelain) ]] || echo "what is not committed is left out"
rm -rf dist
mkdir -p dist "$source"
git archive HEAD | tar -x -C "$source"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH

"$tools/python" -m build --wheel --no-isolation --outdir dist "$source" > "$work/log" 2>&1 || {
  tail -n 20 "$work/log" >&2
  exit 1
}
wheel=(dist/*.whl)
name=$(basename "${wheel[0]}" -py3-none-any.whl)
version=${name##*-}
# The packages of the balancer alone, for --no-deps.
cp "$source/lb/requirements.txt" "dist/$name-lb-requirements.txt"
cp "$source/requirements.txt" "dist/$name-constraints.txt"

"$tools/python" -m venv --without-pip "$work/venv"
"$tools/python" -m pip --python "$python" install -q --disable-pip-version-check \
  --constraint "$source/requirements.txt" "${wheel[0]}"
"$tools/cyclonedx-py" environment "$python" --pyproject "$source/pyproject.toml" --mc-type application \
  --output-reproducible --output-file "dist/$name.cdx.json"
# It warns that a list has no root.
"$tools/cyclonedx-py" requirements "$source/bench/environments/local/requirements-engine.txt" \
  --output-reproducible --output-file "dist/$name-engine-cpu.cdx.json"
allowed=$(grep -v '^#' .ci/licences.txt | paste -sd ';')
licences=(--python "$python" --from mixed --with-urls --format csv)
"$tools/pip-licenses" "${licences[@]}" --partial-match \
  --allow-only "$allowed" --fail-on GPL > "dist/$name-licences.csv"

if ! docker version > /dev/null 2>&1; then
  echo "no images are built: no Docker daemon answers; start one and run this again"
elif ! docker image inspect "${BASE:=python:3.11-slim-bookworm}" > /dev/null 2>&1 &&
  ! docker pull -q "$BASE" > /dev/null; then
  echo "no images are built: there is no base image $BASE, and it cannot be pulled"
else
  for image in balancer:llm-bench-lb suite:llm-bench engine-cpu:llm-bench-engine-cpu; do
    tag=${image#*:}:$version
    docker build -q -f "$source/docker/${image%:*}.Dockerfile" --build-arg PYTHON="$BASE" \
      --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL --build-arg PIP_FIND_LINKS \
      --build-arg PIP_TRUSTED_HOST -t "$tag" "$source"
    docker image inspect -f "$tag {{.Id}}" "$tag" >> dist/images.txt
  done
fi

(cd dist && sha256sum -- * > SHA256SUMS)
echo "made from commit $(git rev-parse --short HEAD):"
ls dist
grep -q "^## $version" CHANGELOG.md || echo "CHANGELOG.md has no section for $version: this is no release yet"
git tag --points-at HEAD | grep -qx "v$version" || echo "HEAD has no tag v$version: this is no release yet"
