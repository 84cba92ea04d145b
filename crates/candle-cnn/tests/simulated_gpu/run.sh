#!/bin/sh
# run.sh PROGRAM [ARGUMENT…]: runs a program that was compiled with CUDA on the simulated GPU of this folder.
# As cargo's runner: cargo --config "target.'cfg(all())'.runner = '…/run.sh'" test …
set -eu

: "${CUDA_HOME:?wants the folder of the CUDA toolkit}"
here=$(cd "$(dirname "$0")" && pwd)
program=${1:?wants a program, and its arguments}

# cifar-lab is a library of its own.
parts="$program $(ldd "$program" | awk '/libcifar_lab/ && /=> \// {print $3}')"
names='lib(cuda|cublas|cublasLt|curand|cudnn|nvrtc)\.so[.0-9]*'
libraries=$(readelf -d $parts | sed -nE "s/.*NEEDED.*\[($names)\].*/\1/p" | sort -u)
if [ -z "$libraries" ]; then
    exec "$@"
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Compiled anew where a source is newer, next to the program.
objects=$(dirname "$program")/simulated_gpu
mkdir -p "$objects"
for source in "$here"/*.cpp; do
    object=$objects/$(basename "$source" .cpp).o
    newer=$(find "$here" "$here/../kernels" "$here"/../../src/*/*.cu -newer "$object" 2>&1 | head -1)
    if [ -n "$newer" ]; then
        ${CXX:-c++} -std=c++17 -O2 -fPIC -ffp-contract=off -Wall -Werror -isystem "$CUDA_HOME/include" \
            -isystem "$CUDA_HOME/targets/$(uname -m)-linux/include" -c "$source" -o "$object.$$"
        mv "$object.$$" "$object"
    fi
done

# What is not simulated says so when it is called: a program starts only where all of its symbols are.
nm --defined-only "$objects"/*.o | awk '{print $3}' | sort -u > "$folder/simulated"
nm -D --undefined-only $parts | awk '{print $2}' | sed 's/@.*//' |
    grep -E '^(cu[A-Z]|cublas|cudnn|curand|nvrtc)' | sort -u > "$folder/wanted"
{
    echo 'void not_simulated(const char *);'
    comm -13 "$folder/simulated" "$folder/wanted" | while read -r name; do
        echo "void $name(void) { not_simulated(\"$name\"); }"
    done
} > "$folder/rest.c"
${CC:-cc} -fPIC -c "$folder/rest.c" -o "$folder/rest.o"
# Programs ask each library for symbols of a version, which NVIDIA names after the library.
for library in $libraries; do
    echo "$library {};"
    ln -s libsimulated_gpu.so "$folder/$library"
done > "$folder/versions"
${CXX:-c++} -shared "$objects"/*.o "$folder/rest.o" -Wl,--version-script="$folder/versions" \
    -o "$folder/libsimulated_gpu.so"
# CUDA's runtime, which needs no driver, is the toolkit's.
SIMULATED_GPU=1 LD_LIBRARY_PATH=$folder:${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$CUDA_HOME/lib64:$CUDA_HOME/lib "$@"
