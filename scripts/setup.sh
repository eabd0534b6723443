#!/bin/sh
# Makes .venv with the locked packages and this checkout; called by `make setup`, again whenever the locks change.
#
# Works where the system's Python refuses `pip install` (PEP 668), has no venv module, and no uv is installed: pip puts
# uv into build/uv, which is no part of the system's Python, and uv does the rest.  Writes nothing outside the checkout
# but uv's and pip's caches.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
here=$(pwd -P)

say() { printf '==> %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$1" >&2
    printf '       %s\n' "$2" >&2
    exit 1
}

command -v "$PYTHON" >/dev/null 2>&1 ||
    fail "there is no command '$PYTHON'" "Install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3"
# Asking Python itself looks through launchers and shims.
python=$("$PYTHON" -c 'import sys; print(sys.executable)') || fail "'$PYTHON' does not run" "Name another: make setup PYTHON=..."
version=$("$python" -c 'import platform; print(platform.python_version())')
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
    fail "'$PYTHON' is Python $version, bichat needs 3.11 or newer" "Name a newer one: make setup PYTHON=python3.12"

export UV_PYTHON_DOWNLOADS=never UV_NO_MANAGED_PYTHON=1
unset VIRTUAL_ENV UV_SYSTEM_PYTHON UV_TARGET UV_PREFIX 2>/dev/null || true

# 1. uv: what this checkout fetched before, else with pip, else with a venv's pip, else the machine's own.
wanted=$(sed -n 's/^uv==\([0-9.]*\).*/\1/p' requirements/bootstrap.txt)
uv=build/uv/bin/uv
if [ "$("$uv" --version 2>/dev/null | cut -d ' ' -f 2)" != "$wanted" ]; then
    rm -rf build/uv build/pip
    mkdir -p build
    if "$python" -m pip --version >/dev/null 2>&1; then
        say "fetching uv $wanted into build/uv"
        pip=$python
    elif "$python" -m venv build/pip >/dev/null 2>&1; then
        say "fetching uv $wanted into build/uv (this Python has no pip: using a venv's)"
        pip=build/pip/bin/python
    elif command -v uv >/dev/null 2>&1; then
        say "using the uv that is installed: $(uv --version)"
        pip='' uv=uv
    else
        fail "'$PYTHON' has neither pip nor venv, and uv is not installed" "Install one of them, for example: apt-get install python3-pip"
    fi
    if [ -n "$pip" ]; then
        PIP_USER=0 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 "$pip" -m pip install \
            -qq --no-compile --require-hashes --only-binary :all: --target build/uv -r requirements/bootstrap.txt
        rm -rf build/pip
    fi
fi

# 2. .venv: kept when it belongs to this folder and runs.
if [ "$(cat .venv/.place 2>/dev/null)" = "$here" ] && .venv/bin/python -c '' 2>/dev/null; then
    say "updating .venv ($(.venv/bin/python --version))"
else
    say "making .venv with Python $version ($python)"
    rm -rf .venv
    "$uv" venv --quiet --python "$python" .venv
    printf '%s' "$here" >.venv/.place
fi
rm -f .venv/.ready

# 3. the packages, exactly those locked, then this checkout itself (editable).  Byte code is made here and once.
say "installing the packages of requirements/dev.txt"
"$uv" pip sync --python .venv/bin/python --require-hashes --compile-bytecode requirements/dev.txt
say "installing bichat"
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
.venv/bin/python -m compileall -q src/bichat >/dev/null 2>&1 || true

printf '%s\n' "$here" >.venv/.ready
