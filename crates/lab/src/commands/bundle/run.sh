#!/bin/sh
# run.sh [--out FOLDER] [--only STEP,…] [--data FOLDER] [--python PYTHON] [--test-seconds N] [--tiny]
#
# Checks on a machine with an NVIDIA GPU that the programs in this folder compute the right results, and measures how fast
# they are. It needs NVIDIA's driver and the libraries of CUDA and cuDNN, but neither Rust nor a network. If there is
# PyTorch, it is measured too.
#
# --out     folder for report.md, which grows step by step, and a log of each step (default: results/ next to this script)
# --only    run only these steps: machine, operations, errors, benchmark, training, sanitizer, kernels
# --data    CIFAR-10 in its binary layout, for the step `training`
# --python  Python with PyTorch (default: python3)
# --test-seconds  time limit for each test program (default: 60)
# --tiny    run each step at its smallest, to try this script; RUNNER, if set, is put before each program
set -u

# The status of a step that is skipped, because this machine lacks something.
SKIPPED=77

# The output of a step goes to the report, its standard error to its log.

machine() {
    echo '```'
    uname -srm
    sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1
    nvidia-smi --format=csv,noheader \
        --query-gpu=name,driver_version,compute_cap,memory.total,clocks.sm,clocks.max.sm,clocks.mem,power.limit ||
        echo 'nvidia-smi failed'
    cat "$WORK/libraries"
    "$PYTHON" -c 'import torch; print("PyTorch", torch.__version__, "with cuDNN", torch.backends.cudnn.version())' ||
        echo "no PyTorch in $PYTHON"
    echo '```'
    nvidia-smi -q -d CLOCK,PERFORMANCE,TEMPERATURE >&2
    ! grep -q 'not found' "$WORK/libraries"
}

# program SECONDS NAME [ARGUMENT…]
program() {
    seconds=$1 name=$2 && shift 2
    # shellcheck disable=SC2086 # RUNNER may have arguments.
    LD_LIBRARY_PATH=$FOLDERS timeout --foreground -k 5 "$seconds" ${RUNNER-} "$PROGRAMS/$name" "$@"
}

# tests NAME [ARGUMENT…]: prints a line for a test program. One that skipped its tests for lack of a GPU has failed.
tests() {
    log=$WORK/tests.log
    program "$TEST_SECONDS" "$@" --nocapture > "$log" 2>&1
    status=$?
    cat "$log" >&2
    counted=$(sed -n 's/^test result: [^ ]* \([0-9]* passed; [0-9]* failed\).*/\1/p' "$log" | tail -1)
    [ $status -ne 124 ] || counted="stopped after $TEST_SECONDS s"
    if grep -q 'skipped: no GPU' "$log"; then
        counted="$counted; found no GPU"
        status=1
    fi
    echo "- $1: ${counted:-did not start: $(tail -1 "$log")}"
    sed -n 's/^    \([a-z_:]*\)$/  - \1 failed/p' "$log" | sort -u
    return $status
}

operations() {
    good=0
    # At the smallest size, only a test or two of each.
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
        echo 'Skipped: --data is missing.'
        return $SKIPPED
    fi
    epochs=20 images=0 good=0
    if [ -n "$TINY" ]; then
        # From each file, as many pictures as the notebook shows.
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
        # Fewer epochs, since the first takes as long as several.
        pytorch_training compiled 5 --compile || good=1
    fi
    return $good
}

# A few steps of the benchmark's network. Its workers read from standard input what to do.
steps() {
    program 100 bench --worker candle-cnn
}

sanitizer() {
    if ! command -v compute-sanitizer > /dev/null; then
        echo 'Skipped: there is no compute-sanitizer.'
        return $SKIPPED
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
        echo 'Skipped: there is no ncu.'
        return $SKIPPED
    fi
    good=0
    for batch in 32 512; do
        log=$WORK/ncu.csv
        echo "training $batch 5" |
            RUNNER="${RUNNER-} ncu --clock-control none --csv --metrics gpu__time_duration.sum" steps > "$log" 2>&1 || good=1
        cat "$log" >&2
        echo "Batch $batch, five steps (each kernel measured alone, so without overlap):"
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

# Python keeps its own libraries.
{
    echo '#!/bin/sh'
    echo "LD_LIBRARY_PATH='${LD_LIBRARY_PATH-}' exec '$PYTHON' \"\$@\""
} > "$WORK/python"
chmod +x "$WORK/python"
HAS_PYTORCH=$("$PYTHON" -c 'import torch; print(1)' 2> /dev/null)

# Libraries that the linker doesn't find may be in a toolkit, or in packages of PyTorch.
FOLDERS=${LD_LIBRARY_PATH-}
packages=$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' 2> /dev/null)
for library in $(ldd "$PROGRAMS"/* 2> /dev/null | sed -n 's/^[[:space:]]*\([^ ]*\) => not found.*/\1/p' | sort -u); do
    where='not found: install it, or add its folder to LD_LIBRARY_PATH'
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

# step NAME SECONDS: runs a step within its time and that of all, and writes its section of the report.
step() {
    case ,$only, in
        ,, | *,"$1",*) ;;
        *) return ;;
    esac
    section=$WORK/$1
    begun=$(date +%s)
    # 9 minutes for all, with half a minute to spare.
    limit=$((510 - begun + started))
    [ $limit -lt "$2" ] || limit=$2
    printf '\n### %s\n\n' "$1" >> "$report"
    # To `timeout`, 0 means no limit.
    if [ $limit -lt 5 ]; then
        failed="$failed $1"
        echo "$1: skipped, since no time was left" | tee -a "$report"
        return
    fi
    STEP=$1 timeout -k 5 $limit "$0" > "$section" 2> "$out/$1.log"
    status=$?
    # If a step printed nothing, the reason is in its log.
    [ $status -eq 0 ] || grep -q . "$section" || tail -n 2 "$out/$1.log" > "$section"
    cat "$section" >> "$report"
    took="$(($(date +%s) - begun)) s"
    case $status in
        0) verdict="passed in $took" ;;
        "$SKIPPED") verdict=skipped && status=0 ;;
        124 | 137) verdict="stopped after its $took; see $1.log" ;;
        *) verdict="failed in $took; see $1.log" ;;
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
echo "Report: $report"
[ -z "$failed" ]
