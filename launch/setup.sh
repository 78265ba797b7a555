# shellcheck shell=bash
# Sourced by the other scripts: a virtual environment in .venv with this checkout in it. Quick when already set up.
# Argument: the extra to install (dev), or none.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

setup() {
  local extra="${1:-}" python="${PYTHON:-python3}" stamp wanted
  "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    { echo "setup: found $("$python" --version), expected Python 3.11 or newer (PYTHON=... names another)" >&2; exit 2; }
  wanted=$(cat pyproject.toml launch/constraints.txt launch/setup.sh; "$python" --version)
  stamp=".venv/installed${extra:+-$extra}"
  if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
    [ -x .venv/bin/pip ] || "$python" -m venv .venv ||
      { echo "setup: no virtual environment could be made (on Debian: apt-get install python3-venv)" >&2; exit 2; }
    echo "installing into .venv (once, a few minutes)"
    # torch first: deepspeed is built against what is there
    .venv/bin/pip install --quiet --constraint launch/constraints.txt torch setuptools wheel
    .venv/bin/pip install --quiet --constraint launch/constraints.txt --editable ".${extra:+[$extra]}"
    echo "$wanted" > "$stamp"
  fi
  export PATH="$PWD/.venv/bin:$PATH"
}
