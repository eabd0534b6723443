#!/bin/sh
# Compiles the lock files: exact versions and hashes for every Python from 3.11 on and every platform, no address of
# where they came from.  `scripts/lock.sh --upgrade` takes newer versions; without it only what must change changes.
set -eu
cd "$(dirname "$0")/.."
uv=.venv/bin/uv
[ -x "$uv" ] || uv=build/uv/bin/uv

compile() {
    printf '==> %s\n' "$1"
    out=$1
    shift
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
        --no-emit-find-links --custom-compile-command 'make lock' --output-file "$out" "$@" >/dev/null
}

# What a developer's .venv holds: what the package and its extras need, and every development tool.
compile requirements/dev.txt "$@" --extra all --group dev pyproject.toml
# The fuzzer, which not every platform has: `make fuzz` adds it.
compile requirements/fuzz.txt "$@" --group fuzz
# uv alone, in the same version: what `make setup` fetches with pip before there is anything else.
sed -n '/^uv==/,/^[a-z].*==.*\|^ *# via/{/^uv==/p;/^ *--hash/p}' requirements/dev.txt >requirements/bootstrap.txt
# What guest code sees.  Bare, for it is part of the package and its hash names the environment.
environments=src/bichat/sandbox/environments
for wanted in "$environments"/*.in; do
    [ -e "$wanted" ] || continue
    compile "${wanted%.in}.txt" "$@" --no-annotate --no-header "$wanted"
done
