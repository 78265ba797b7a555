#!/usr/bin/env bash
# What a change must pass: format, lint, types and the default tier of the tests, 7 minutes on two cores.
#
#   bash launch/test.sh          before every commit
#   bash launch/test.sh --all    both tiers of the tests
#   bash launch/test.sh --rest   the full tier alone: what the first leaves out
#
# Further arguments go to pytest. tests/README.md says what the tiers are.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup dev
tier="not full"
case "${1:-}" in
  --all) tier="" && shift ;;
  --rest) tier="full" && shift ;;
esac
types=""
processes=3  # one more than two cores: tests that wait run beside tests that compute
[ "$tier" != full ] || processes=4  # whose tests wait more
if [ "$tier" != full ]; then
  ruff format --check .
  ruff check .
  pyright & types=$!  # beside the tests, which wait now and then
fi
unset PYTHONDONTWRITEBYTECODE  # or each process that a test starts compiles bench/ again
status=0
${PYTEST:-pytest} --numprocesses "$processes" --dist loadscope --no-loadscope-reorder -m "$tier" "$@" || status=$?
[ -z "$types" ] || wait "$types" || status=$?
exit "$status"
