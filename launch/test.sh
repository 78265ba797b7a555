#!/usr/bin/env bash
# What a change must pass: format, lint, types and the default tier of the tests, in about eight minutes on two cores.
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
if [ "$tier" != full ]; then
  ruff format --check .
  ruff check .
  pyright
fi
unset PYTHONDONTWRITEBYTECODE  # or each process that a test starts compiles bench/ again
# one process more than the two cores: tests that wait run beside tests that compute
pytest --numprocesses 3 --dist loadscope --no-loadscope-reorder -m "$tier" "$@"
