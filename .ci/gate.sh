#!/usr/bin/env bash
# The gate for a CI server, on a bare machine with Python 3.11, make, a compiler and libnuma.
#   .ci/gate.sh [OPTION OF PYTEST ...]
# measures both arms and leaves in results/gate/ what a server shows: comment.md, junit.xml,
# latest.json, comparison.html, allure/index.html (docs/how-to/ci.md).
# Exit codes: 0 held, 1 failed, 2 usage error, 3 undecided, 4 invalid, 130 interrupted (or a test
# that cannot be imported).
set -euo pipefail
cd "$(dirname "$0")/.."

shown=results/gate
rm -rf "$shown" results/latest.json
mkdir -p "$shown"
# Replaced when there is one: a server must not go on showing that of an earlier run.
echo "### No verdict: the run ended before there was one. Its log says why." > "$shown/comment.md"

make .venv/.stamp
code=0
.venv/bin/pytest tests/scenarios -m managed --junitxml "$shown/junit.xml" "$@" || code=$?
case $code in
  0 | 1) ;;
  2) exit 130 ;;
  4 | 5) exit 2 ;;
  *) exit 1 ;;
esac

# Absent where nothing could be measured. What compare prints pytest has printed already.
if [[ -f results/latest.json ]]; then
  cp results/latest.json results/comparison.html "$shown"
  outcome=0
  .venv/bin/python -m bench compare --format md --output "$shown/comment.md" > /dev/null ||
    outcome=$?
  # pytest knows --undecided, and fails if a comparison is missing; the outcome says why it failed.
  [[ $code -eq 0 || $outcome -eq 0 ]] || code=$outcome
fi
.venv/bin/python -m reports generate --output "$shown/allure" ||
  echo "there is no Allure report; the exit code is that of the measurement" >&2
exit "$code"
