#!/usr/bin/env bash
# Builds the wheel of the Python package, installs it into a fresh environment, and runs its tests there.
#
#   scripts/build-wheel.sh [--profile PROFILE] [--features LIST] [--no-tests]
#
# PROFILE: release (default), dist (published), dev. LIST: features of the program and the module beside `python`; those that were built
# last need the least (`--profile dev --features train` after `cargo build --workspace --features train`).
#
# Needs rustup, a C compiler and Python 3.9 or newer with venv and pip; fetches maturin and what the tests use. The wheel lies in
# target/wheels. It holds the extension module and the program `overbook`, whole: `overbook sweep launch` starts itself again, and a
# study's plan remembers the hash of its program, which an entry point in Python could not do.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release features= tests=yes
while [ $# -gt 0 ]; do
  case $1 in
    --profile) profile=${2:?--profile needs a name}; shift 2 ;;
    --features) features=${2:?--features needs a list}; shift 2 ;;
    --no-tests) tests=no; shift ;;
    *) echo "unknown: $1 (see the head of $0)" >&2; exit 2 ;;
  esac
done

target=${CARGO_TARGET_DIR:-$PWD/target}
folder=$profile
if [ "$profile" = dev ]; then folder=debug; fi

# The version of the tool decides what the wheel looks like: one version for everybody.
tools=$target/wheel-tools
[ -x "$tools/bin/maturin" ] || { python3 -m venv "$tools"; "$tools/bin/pip" install --quiet maturin==1.16.0; }

cargo build --locked --profile "$profile" --features "$features" --bin overbook
# What the wheel takes as scripts; pyproject.toml names the folder.
scripts=target/wheel-data/scripts
rm -rf target/wheel-data
mkdir -p "$scripts"
cp "$target/$folder/overbook" "$scripts/overbook"

rm -rf "$target/wheels"
"$tools/bin/maturin" build --locked --profile "$profile" --features "python${features:+,$features}" --out "$target/wheels"
wheel=$(ls "$target"/wheels/overbook-*.whl)
echo "$wheel: $(du -m "$wheel" | cut -f 1) MiB"
if [ "$tests" = no ]; then exit 0; fi

fresh=$target/wheel-venv
rm -rf "$fresh"
python3 -m venv "$fresh"
"$fresh/bin/pip" install --quiet "$wheel" -r tests/python/requirements.txt
"$fresh/bin/python" -m pytest -q tests/python
