#!/usr/bin/env bash
# Packs `overbook gpu-check` for a machine with a GPU that has neither Rust nor a network: one folder, and one command to run there.
set -euo pipefail

usage() {
  cat <<'END'
Usage: scripts/gpu-pack.sh [--binary FILE] [FOLDER]

FOLDER (target/gpu-check if none is named) becomes the program and gpu-check.sh, together below 64 MiB. The machine needs an NVIDIA
driver for CUDA 12.8 or newer, and NVRTC and cuBLASLt, which a CUDA toolkit has, and every PyTorch.

  --binary FILE   pack this program instead of building one

Exit codes: 0 packed, 1 not packed, 2 wrong arguments.
END
}

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
binary=
folder=
while [ $# -gt 0 ]; do
  case "$1" in
    --binary) [ $# -gt 1 ] || { usage >&2; exit 2; }; binary="$2"; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "error: no option $1" >&2; usage >&2; exit 2 ;;
    *) [ -z "$folder" ] || { usage >&2; exit 2; }; folder="$1" ;;
  esac
  shift
done
target="${CARGO_TARGET_DIR:-$root/target}"
folder="${folder:-$target/gpu-check}"

if [ -z "$binary" ]; then
  cargo build --manifest-path "$root/Cargo.toml" --release --locked --no-default-features --bin overbook
  binary="$target/release/overbook"
fi
mkdir -p "$folder"
strip -o "$folder/overbook" "$binary"

cat > "$folder/gpu-check.sh" <<'END'
#!/bin/sh
# gpu-check.sh [ARGUMENTS OF `overbook gpu-check`]: finds NVIDIA's libraries and checks the GPU. Results go to $OUT if that is set, as they are
# measured, and stay beside this script, so that another call goes on where this one ends.
here=$(cd "$(dirname "$0")" && pwd)
kept=$here/results
results=${OUT:-$kept}
mkdir -p "$kept" "$results"
[ "$results" = "$kept" ] || cp -n "$kept"/* "$results"/ 2>/dev/null
nvcc=$(command -v nvcc || true)
[ -z "$nvcc" ] && [ -x /usr/local/cuda/bin/nvcc ] && nvcc=/usr/local/cuda/bin/nvcc
libraries=/usr/local/nvidia/lib64
if [ -n "$nvcc" ]; then
  toolkit=$(dirname "$(dirname "$(readlink -f "$nvcc")")")
  libraries=$toolkit/lib64:$libraries
fi
# Wheels that PyTorch brings: nvidia/cu13/lib, or a folder for each library.
wheels=$(python3 -c 'import glob, site, sysconfig
places = {sysconfig.get_paths()["purelib"], *site.getsitepackages(), site.getusersitepackages()}
print(":".join(sorted(folder for place in places for folder in glob.glob(place + "/nvidia/*/lib"))))' 2>/dev/null || true)
export LD_LIBRARY_PATH="$libraries${wheels:+:$wheels}${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export OVERBOOK_CACHE="${OVERBOOK_CACHE:-$here/cache}"
"$here/overbook" gpu-check --out "$results" --resume "$@" &
check=$!
# The program keeps what it has when it is asked to stop.
trap 'kill -TERM "$check" 2>/dev/null' INT TERM
wait "$check"
code=$?
while kill -0 "$check" 2>/dev/null; do
  wait "$check"
  code=$?
done
[ "$results" = "$kept" ] || cp "$results"/* "$kept"/
exit $code
END

kib=$(du -sk "$folder" | cut -f1)
if [ "$kib" -gt 65536 ]; then
  echo "error: $folder has $kib KiB, more than 64 MiB" >&2
  exit 1
fi
echo "$folder: $kib KiB; carry it to the machine, and run there:"
echo "sh $(basename "$folder")/gpu-check.sh --budget 9min"
