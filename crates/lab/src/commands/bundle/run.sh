#!/bin/sh
# run.sh [--out FOLDER] [--only STEP,…] [--data FOLDER] [--python PYTHON] [--test-seconds N] [--tiny]
#
# Shows on a machine with an NVIDIA GPU what the programs of this folder compute there, and how fast. It needs NVIDIA's
# driver, the libraries of CUDA and cuDNN, and neither Rust nor a network; where there is PyTorch, it is measured beside them.
#
# --out     gets report.md, which grows step by step, and a log of each step; otherwise results/ beside this script
# --only    some of the steps: machine, operations, errors, benchmark, training, sanitizer, kernels
# --data    CIFAR-10 in its binary layout, for the step `training`
# --python  the Python with PyTorch; otherwise python3
# --test-seconds  the limit of each program of tests: 60 otherwise
# --tiny    each step at its smallest, to try this script; RUNNER, if set, goes in front of each program
set -u

# What a step returns where this machine lacks something for it.
LEFT_OUT=77

# What a step prints goes to the report, and its standard error to its log.

machine() {
    echo '```'
    uname -srm
    sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1
    nvidia-smi --format=csv,noheader \
        --query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit ||
        echo 'nvidia-smi does not answer'
    cat "$WORK/libraries"
    "$PYTHON" -c 'import torch; print("PyTorch", torch.__version__, "with cuDNN", torch.backends.cudnn.version())' ||
        echo "no PyTorch in $PYTHON: it is left out"
    echo '```'
    nvidia-smi -q -d CLOCK,PERFORMANCE,TEMPERATURE >&2
    ! grep -q 'is nowhere' "$WORK/libraries"
}

# program SECONDS NAME [ARGUMENT…]
program() {
    seconds=$1 name=$2 && shift 2
    # shellcheck disable=SC2086 # RUNNER may have arguments.
    LD_LIBRARY_PATH=$FOLDERS timeout --foreground -k 5 "$seconds" ${RUNNER-} "$PROGRAMS/$name" "$@"
}

# tests NAME [ARGUMENT…]: a line for a program of tests, which has not passed where it was skipped for want of a GPU.
tests() {
    log=$WORK/tests.log
    program "$TEST_SECONDS" "$@" --nocapture > "$log" 2>&1
    status=$?
    cat "$log" >&2
    counted=$(sed -n 's/^test result: [^ ]* \([0-9]* passed; [0-9]* failed\).*/\1/p' "$log" | tail -1)
    [ $status -ne 124 ] || counted="stopped after $TEST_SECONDS s"
    if grep -q 'skipped: no GPU' "$log"; then
        counted="$counted; it saw no GPU"
        status=1
    fi
    echo "- $1: ${counted:-ended at once: $(tail -1 "$log")}"
    sed -n 's/^    \([a-z_:]*\)$/  - \1 failed/p' "$log" | sort -u
    return $status
}

operations() {
    good=0
    # At the smallest size a test or two of each program.
    tests cuda ${TINY:+relu} || good=1
    tests pytorch ${TINY:+linears} || good=1
    tests cuda_precision || good=1
    tests cuda_training ${TINY:+batches_have} || good=1
    return $good
}

errors() {
    good=0
    tests cuda_errors || good=1
    tests cifar_lab device:: || good=1
    return $good
}

benchmark() {
    set -- --pytorch-script "$HERE/bench_pytorch.py"
    [ -z "$HAS_PYTORCH" ] || set -- "$@" --python "$WORK/python"
    if [ -n "$TINY" ]; then
        program 120 bench "$@" --rounds 1 --batches 2 --modes training --precisions f32 --pytorch-device cpu \
            --only 'candle-cnn as a CUDA graph,PyTorch'
        return
    fi
    good=0
    program 150 bench "$@" --rounds 5 --precisions f32 || good=1
    echo
    program 150 bench "$@" --rounds 3 --precisions tf32,bf16 --modes training || good=1
    return $good
}

# pytorch_training HOW EPOCHS [ARGUMENT…]
pytorch_training() {
    how=$1 epochs=$2 && shift 2
    echo "PyTorch, $how:"
    echo '```'
    timeout --foreground -k 5 150 "$WORK/python" "$HERE/train_pytorch.py" "$DATA" --epochs $epochs "$@" > "$WORK/pytorch.log"
    status=$?
    tail -n 3 "$WORK/pytorch.log"
    echo '```'
    return $status
}

training() {
    if [ -z "$DATA" ]; then
        echo 'Left out: --data names no CIFAR-10.'
        return $LEFT_OUT
    fi
    epochs=20 images=0 good=0
    if [ -n "$TINY" ]; then
        # Of each file as many pictures as the notebook shows.
        for file in "$DATA"/*.bin; do head -c $((24 * 3073)) "$file" > "$WORK/${file##*/}"; done
        epochs=1 images=24 DATA=$WORK
    fi
    echo 'Notebook 00 as a program:'
    echo '```'
    (cd "$WORK" && CIFAR10_DIR=$DATA program 150 notebook_00_pipeline --set epochs=$epochs --set training_images=$images) \
        > "$WORK/notebook.log" 2>&1 || good=1
    cat "$WORK/notebook.log" >&2
    grep -E '^(computing on|epoch .* accuracy|[0-9,]+ of .* right)|rror' "$WORK/notebook.log" | uniq | tail -n 24
    echo '```'
    [ -n "$HAS_PYTORCH" ] || return $good
    if [ -n "$TINY" ]; then
        pytorch_training eager 1 --device cpu || good=1
    else
        pytorch_training eager 20 || good=1
        # Fewer, since its first takes as long as several.
        pytorch_training compiled 5 --compile || good=1
    fi
    return $good
}

# A few steps of the benchmark's network, as its workers take them from standard input.
steps() {
    program 100 bench --worker candle-cnn
}

sanitizer() {
    if ! command -v compute-sanitizer > /dev/null; then
        echo 'Left out: there is no compute-sanitizer.'
        return $LEFT_OUT
    fi
    good=0
    for tool in memcheck racecheck; do
        log=$WORK/sanitizer.log
        echo 'training 4 1' | RUNNER="${RUNNER-} compute-sanitizer --tool $tool --error-exitcode 9" steps > "$log" 2>&1 || good=1
        cat "$log" >&2
        echo "- $tool: $(sed -n 's/^=* \(ERROR SUMMARY\|RACECHECK SUMMARY\): //p' "$log" | tail -1)"
    done
    return $good
}

kernels() {
    if ! command -v ncu > /dev/null; then
        echo 'Left out: there is no ncu.'
        return $LEFT_OUT
    fi
    good=0
    for batch in 32 512; do
        log=$WORK/ncu.csv
        echo "training $batch 5" |
            RUNNER="${RUNNER-} ncu --clock-control none --csv --metrics gpu__time_duration.sum" steps > "$log" 2>&1 || good=1
        cat "$log" >&2
        echo "Batch $batch, of five steps (each kernel by itself, so without what overlaps):"
        echo
        echo '| kernel | calls a step | µs a step | share |'
        echo '|---|---:|---:|---:|'
        # In nanoseconds, the last column.
        awk -F '","' '/gpu__time_duration/ {
                name = $5; time = $NF; gsub(/[",]/, "", time); sub(/\(.*/, "", name); sub(/^void /, "", name)
                sub(/<.*/, "", name)
                if ($(NF - 1) ~ /^us/) time *= 1000
                sum[name] += time; calls[name]++; all += time
            }
            END { for (name in sum)
                printf "| %s | %.1f | %.1f | %.1f %% |\n", substr(name, 1, 70), calls[name] / 5, sum[name] / 5000, 100 * sum[name] / all
            }' "$log" | sort -t '|' -k 4 -n -r | head -10
        echo
    done
    return $good
}

if [ -n "${STEP-}" ]; then
    "$STEP"
    exit
fi

HERE=$(cd "$(dirname "$0")" && pwd)
out=$HERE/results only='' DATA='' PYTHON=python3 TINY='' TEST_SECONDS=60
while [ $# -gt 0 ]; do
    case $1 in
        --out) out=$2 && shift ;;
        --only) only=$2 && shift ;;
        --data) DATA=$(cd "$2" && pwd) && shift ;;
        --python) PYTHON=$2 && shift ;;
        --test-seconds) TEST_SECONDS=$2 && shift ;;
        --tiny) TINY=1 ;;
        *)
            sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
            exit 2
            ;;
    esac
    shift
done
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit
WORK=$(mktemp -d) || exit
trap 'rm -rf "$WORK"' EXIT
trap 'exit 130' INT TERM
PROGRAMS=$WORK/programs
mkdir "$PROGRAMS"
tar -xJf "$HERE/programs.tar.xz" -C "$PROGRAMS" 2> /dev/null ||
    "$PYTHON" -m tarfile -e "$HERE/programs.tar.xz" "$PROGRAMS" || exit

# Python goes on with its own libraries.
{
    echo '#!/bin/sh'
    echo "LD_LIBRARY_PATH='${LD_LIBRARY_PATH-}' exec '$PYTHON' \"\$@\""
} > "$WORK/python"
chmod +x "$WORK/python"
HAS_PYTORCH=$("$PYTHON" -c 'import torch; print(1)' 2> /dev/null)

# What the linker does not find by itself is in a toolkit, or in the packages that PyTorch brings along.
FOLDERS=${LD_LIBRARY_PATH-}
packages=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2> /dev/null)
for library in $(ldd "$PROGRAMS"/* 2> /dev/null | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' | sort -u); do
    where='is nowhere: install it, or name its folder in LD_LIBRARY_PATH'
    [ -z "${RUNNER-}" ] || where='is simulated'
    for folder in "${CUDA_HOME-}"/lib64 /usr/local/cuda*/lib64 /opt/cuda/lib64 "$packages"/nvidia/*/lib; do
        if [ -e "$folder/$library" ]; then
            where="from $folder"
            case :$FOLDERS: in *":$folder:"*) ;; *) FOLDERS=${FOLDERS:+$FOLDERS:}$folder ;; esac
            break
        fi
    done
    echo "$library $where"
done > "$WORK/libraries"
ldd "$PROGRAMS/bench" 2> /dev/null | sed -n 's/^[[:space:]]*\(lib\(cu\|nv\)[^ ]*\) => \(\/[^ ]*\).*/\1 from \3/p' >> "$WORK/libraries"

export HERE DATA PYTHON TINY TEST_SECONDS WORK PROGRAMS HAS_PYTORCH FOLDERS
report=$out/report.md
: > "$report"
echo "\`run.sh\`, $(date -u '+%Y-%m-%d %H:%M') UTC." >> "$report"
started=$(date +%s)
failed=''

# step NAME SECONDS: its section of the report, within its time and that of all.
step() {
    case ,$only, in
        ,, | *,"$1",*) ;;
        *) return ;;
    esac
    section=$WORK/$1
    begun=$(date +%s)
    # In all 9 minutes, with half a minute to spare.
    limit=$((510 - begun + started))
    [ $limit -lt "$2" ] || limit=$2
    printf '\n### %s\n\n' "$1" >> "$report"
    # For `timeout`, 0 is no limit at all.
    if [ $limit -lt 5 ]; then
        failed="$failed $1"
        echo "$1: left out, since no time was left" | tee -a "$report"
        return
    fi
    STEP=$1 timeout -k 5 $limit "$0" > "$section" 2> "$out/$1.log"
    status=$?
    # A step that ends before it says anything has said why in its log.
    [ $status -eq 0 ] || grep -q . "$section" || tail -n 2 "$out/$1.log" > "$section"
    cat "$section" >> "$report"
    took="$(($(date +%s) - begun)) s"
    case $status in
        0) verdict="passed in $took" ;;
        "$LEFT_OUT") verdict='left out' && status=0 ;;
        124 | 137) verdict="stopped after its $took; $1.log has what it said" ;;
        *) verdict="failed in $took; $1.log has what it said" ;;
    esac
    [ $status -eq 0 ] || failed="$failed $1"
    printf '\n%s: %s.\n' "$1" "$verdict" >> "$report"
    echo "$1: $verdict"
}

step machine 20
step operations 100
step errors 60
step benchmark 270
step training 260
step sanitizer 60
step kernels 60
echo "The report is $report."
[ -z "$failed" ]
