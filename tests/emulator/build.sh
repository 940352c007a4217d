#!/bin/sh
# build.sh FOLDER: the stand-in library under the names that programs ask for, and its self-test.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:?folder for the libraries}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$here"
cxx=${CXX:-c++}
$cxx -std=c++17 -O2 -Wall -Wextra -Wno-psabi -fPIC -shared -fvisibility=hidden -fno-gnu-unique -pthread \
  -DOVERBOOK_EMULATOR_SOURCE_DEFAULT="\"$here\"" -Wl,--no-undefined -Wl,--version-script=exports.map \
  machine.cpp memory.cpp driver_device.cpp driver_memory.cpp driver_streams.cpp driver_graphs.cpp driver_modules.cpp \
  nvrtc.cpp host_compiler.cpp cublaslt.cpp gemm.cpp nvml.cpp -o "$out/liboverbook_emulator.so" -ldl
for name in libcuda.so libnvrtc.so libcublasLt.so libnvidia-ml.so libnvidia-ml.so.1; do ln -sf liboverbook_emulator.so "$out/$name"; done
$cxx -std=c++17 -O1 -Wall -Wextra selftest.cpp selftest_driver.cpp selftest_kernels.cpp selftest_libraries.cpp -o "$out/selftest" -ldl -pthread
