#!/usr/bin/env bash
# Checks and measures a GPU in at most eight minutes, into one folder: the devices, whether the kernels compute correctly,
# whether all tile shapes give the same bits, what the driver's compiler says about the kernels, how fast every model trains, and
# PyTorch beside it where it is installed. `docs/verified.md` and `docs/performance.md` are made from these files.
#
#     benches/hardware.sh [--device DEVICE] [--out FOLDER] [--program FILE]
#
# The machine needs no Rust: --program is a `gpu-gan` that was built elsewhere, and this file and benches/peers/pytorch.py may lie in any folder.
# Without --program, the script uses the one on the PATH or target/release/gpu-gan.
set -uo pipefail

device=gpu
out=hardware
program=''
while [ $# -gt 0 ]; do
    case "$1" in
        --device | --out | --program)
            [ $# -ge 2 ] || { echo "error: $1 needs a value" >&2; exit 2; }
            declare "${1#--}=$2"
            shift 2
            ;;
        *)
            echo "error: unknown argument $1" >&2
            echo 'hint:  benches/hardware.sh [--device DEVICE] [--out FOLDER] [--program FILE]' >&2
            exit 2
            ;;
    esac
done
here="$(cd "$(dirname "$0")" && pwd)"
[ -n "$program" ] || program="$(command -v gpu-gan || echo "$here/../target/release/gpu-gan")"
if ! [ -x "$program" ]; then
    echo "error: $program does not exist or is not executable" >&2
    echo 'hint:  build it with `cargo build --release`, or give another with --program' >&2
    exit 1
fi
mkdir -p "$out" || exit 1

begin=$SECONDS
limit=480
failed=''
# left: seconds until the end.
left() { echo $((limit - (SECONDS - begin))); }
# part NAME MOST COMMAND...: writes what a command prints to NAME, its messages to NAME.log; in MOST seconds, or fewer if the time is short.
part() {
    local name="$1" most="$2" start=$SECONDS code
    shift 2
    [ "$(left)" -ge "$most" ] || most="$(left)"
    if [ "$most" -lt 5 ]; then
        echo "$name: left out, no time is left" | tee -a "$out/parts.txt"
        failed="$failed $name"
        return 1
    fi
    timeout --kill-after=5 "$most" "$@" >"$out/$name" 2>"$out/$name.log"
    code=$?
    case $code in
        0) echo "$name: $((SECONDS - start)) s" | tee -a "$out/parts.txt" ;;
        124 | 137) echo "$name: stopped after $most s; $out/$name.log has its messages" | tee -a "$out/parts.txt" ;;
        *) echo "$name: failed with code $code after $((SECONDS - start)) s; see $out/$name.log" | tee -a "$out/parts.txt" ;;
    esac
    [ $code = 0 ] || failed="$failed $name"
    return $code
}

rm -f "$out/parts.txt"
{ date -u; uname -a; "$program" --version; command -v nvidia-smi >/dev/null && nvidia-smi; } >"$out/machine.txt" 2>&1
part devices.json 20 "$program" devices --json
# The clocks, while all else runs.
if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu --format=csv -l 1 >"$out/clocks.csv" 2>/dev/null &
    clocks=$!
    trap 'kill "$clocks" 2>/dev/null' EXIT
fi
# What the compiler says comes first: it needs no correct results, and little time. The tile shapes are compared bit by bit before they are timed.
for model in dcgan-small dcgan-fast dcgan-64; do
    part "kernels-$model.json" 30 "$program" bench --kernels --model "$model" --json \
        --device "$([ "$device" = gpu ] && echo auto || echo "$device")"
done
part verify-quick.json 90 "$program" verify --quick --json --device "$device"
# An empty cache, so that the tile shapes are compared and timed here and now; every line about wrong bits is in the log.
rm -rf "$out/cache" "$out/run"
GPU_GAN_CACHE="$out/cache" part tile-shapes.txt 60 "$program" train mnist --steps 2 --eval-every never --device "$device" --out "$out/run"
torch=no
[ -f "$here/peers/pytorch.py" ] && python3 -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null && torch=yes
echo "PyTorch with CUDA: $torch" >>"$out/machine.txt"
for model in dcgan-small dcgan-fast dcgan-28 dcgan-64 gan-mlp dcgan-fast-64 upconv-64; do
    part "bench-$model.json" 25 "$program" bench --steps --model "$model" --json --device "$device" --seconds 2
    if [ "$torch" = yes ] && [[ ' dcgan-small dcgan-fast dcgan-28 dcgan-64 ' == *" $model "* ]]; then
        for way in '' --compile; do
            # shellcheck disable=SC2086 # one word or none
            part "pytorch-$model${way:+-compiled}.json" 40 python3 "$here/peers/pytorch.py" --model "$model" --device cuda --json $way
        done
    fi
done
part operations-dcgan-64.json 40 "$program" bench --operations --model dcgan-64 --json --device "$device"
part verify-full.json "$(left)" "$program" verify --full --json --device "$device"

echo "results are in $out, after $((SECONDS - begin)) s"
if [ -n "$failed" ]; then
    echo "failed or stopped parts:$failed" >&2
    exit 1
fi
