#!/usr/bin/env bash
# Branch coverage of bench/ by both tiers of the tests, a row per package; what processes of the tests run counts too.
#
#   bash launch/coverage.sh [FOLDER]    keeps the data there (build/coverage)
#
# It runs both tiers one after another and takes about twice their time.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup dev
folder="${1:-build/coverage}"
mkdir -p "$folder"
folder="$(cd "$folder" && pwd)"
failed=0
for tier in default rest; do
  export COVERAGE_FILE="$folder/$tier"
  PYTEST="coverage run -m pytest" bash launch/test.sh $([ "$tier" = default ] || echo "--$tier") || failed=1
  coverage combine --quiet
done
python tests/benchmarks/coverage_table.py "$folder/default" "$folder/rest"
exit "$failed"
