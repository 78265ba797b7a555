#!/usr/bin/env bash
# Everything a change must pass: format, lint, types, tests. Arguments go to pytest.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
setup dev
ruff format --check .
ruff check .
pyright
pytest --numprocesses 2 "$@"
