#!/usr/bin/env bash
# Checks and measures a GPU in at most eight minutes, into one folder: the devices, whether the kernels compute correctly, whether all tile
# shapes give the same bits, how fast every built-in model trains, what the driver's compiler says about the kernels, PyTorch beside it
# where it is installed, and the clocks meanwhile. `docs/verified.md` and `docs/performance.md` are made from these files.
#
#     benches/hardware.sh [--device DEVICE] [--out FOLDER] [--program FILE]
#
# The machine needs no Rust: --program is a `gpu-gan` that was built elsewhere, and this file and benches/peers/pytorch.py may lie in any folder.
# Without --program, the script uses the one on the PATH or target/release/gpu-gan.
#
# Exits with 0 if every part was done; with 1 if a part failed or was stopped; with 3 if parts were only left out, as the machine lacks
# what they need. The last lines name these parts with the reasons.
set -uo pipefail
SECONDS=0

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
peers="$(cd "$(dirname "$0")" && pwd)/peers"
[ -n "$program" ] || program="$(command -v gpu-gan || echo "$peers/../../target/release/gpu-gan")"
# The built-in models, in the first column of the table.
if ! models="$("$program" models | awk 'NR > 1 { print $1 }')" || [ -z "$models" ]; then
    echo "error: $program does not run" >&2
    # shellcheck disable=SC2016 # no command to run
    echo 'hint:  build it with `cargo build --release`, or give another with --program' >&2
    exit 1
fi
read -ra models <<<"${models//$'\n'/ }"

# Seconds of the parts, at most 480 together. The first number is for the script's own work.
seconds_of_script=20 seconds_of_devices=5 seconds_of_quick=25 seconds_of_operations=12
seconds_of_steps=117 seconds_of_kernels=27 # of all models together
declare -A seconds_of_peer=([eager]=6 [compiled]=22 [graphs]=16) # of a model
seconds_of_full=$((478 - seconds_of_script - seconds_of_devices - seconds_of_quick - seconds_of_operations - seconds_of_steps - seconds_of_kernels))

# The folder also has the cache, so that the tile shapes are compared and timed here and now. Results of an earlier call would pass for
# those of parts that are stopped now. A folder of somebody else's files is not touched.
mkdir -p "$out" || exit 1
if [ -n "$(ls -A "$out")" ] && [ ! -f "$out/parts.txt" ]; then
    echo "error: $out is not empty, and not the results of an earlier call" >&2
    echo 'hint:  give a new folder with --out' >&2
    exit 2
fi
rm -rf "$out"/{cache,parts.txt,machine.txt,clocks.csv,devices.json*,verify-*,bench-*,kernels-*,pytorch-*,operations-*}
export GPU_GAN_CACHE="$out/cache"

# When the part that runs must have ended, in seconds after the start of the script: a part has its own seconds and those that parts
# before it left.
deadline=$seconds_of_script
failed=() left_out=()
say() { echo "$1" | tee -a "$out/parts.txt"; }
# fail NAME REASON, leave_out NAME REASON: note a part for the last lines.
fail() { say "$1: $2"; failed+=("$1: $2"); }
leave_out() { say "$1: left out, as $2"; left_out+=("$1: $2"); }
# part NAME SECONDS COMMAND...: writes what a command prints to the file NAME, and its messages to NAME.log.
part() {
    local name="$1" start=$SECONDS most code error
    deadline=$((deadline + $2))
    most=$((deadline > SECONDS ? deadline - SECONDS : 1))
    shift 2
    # In a group, so that the shell does not tell of a killed command.
    { timeout --kill-after=2 "$most" "$@" >"$out/$name" 2>"$out/$name.log"; } 2>/dev/null
    code=$?
    error="$(grep -m 1 '^error: ' "$out/$name.log" || tail -n 1 "$out/$name.log")"
    case $code in
        0) say "$name: $((SECONDS - start)) s" ;;
        124 | 137) fail "$name" "stopped after $most s" ;;
        *) fail "$name" "code $code after $((SECONDS - start)) s: ${error:-no message}" ;;
    esac
    return $code
}

{ date -u; uname -a; nproc; "$program" --version; } >"$out/machine.txt" 2>&1
# The clocks, once a second while all else runs. AMD's driver marks the clock that it uses with a star.
if command -v nvidia-smi >/dev/null; then
    nvidia-smi >>"$out/machine.txt" 2>&1
    nvidia-smi --query-gpu=timestamp,clocks.sm,clocks.mem,power.draw,temperature.gpu --format=csv -l 1 >"$out/clocks.csv" 2>&1 &
elif compgen -G '/sys/class/drm/card*/device/pp_dpm_sclk' >/dev/null; then
    while sleep 1; do
        for file in /sys/class/drm/card*/device/pp_dpm_[sm]clk; do
            echo "$(date -u +%T), $file, $(grep -F '*' "$file")"
        done
    done >"$out/clocks.csv" 2>&1 &
elif command -v rocm-smi >/dev/null; then
    while sleep 1; do rocm-smi --showclocks --csv; done >"$out/clocks.csv" 2>&1 &
else
    leave_out clocks.csv 'neither nvidia-smi, pp_dpm_sclk of an AMD driver nor rocm-smi tells them'
fi
# No job, if there are no clocks.
trap 'kill $(jobs -p) 2>/dev/null' EXIT

# The models that PyTorch trains as well, and those of them that torch.compile accepts.
peer_models="$(timeout 20 python3 -c '
import sys
sys.path.insert(0, sys.argv[1])
import pytorch, torch
assert torch.cuda.is_available(), "PyTorch finds no CUDA device"
for name in pytorch.MODELS:
    print(name, "eager compiled graphs" if pytorch.can_be_compiled(name) else "eager")
' "$peers" 2>"$out/pytorch-models.log")"
[ -n "$peer_models" ] || leave_out pytorch "$(tail -n 1 "$out/pytorch-models.log" | grep . || echo 'python3 gave no answer in 20 s')"
for way in "${!seconds_of_peer[@]}"; do
    seconds_of_full=$((seconds_of_full - seconds_of_peer[$way] * $(grep -cw "$way" <<<"$peer_models")))
done

part devices.json $seconds_of_devices "$program" devices --json
# The full check contains the quick one, which says something even if the time is too short for the full one.
part verify-quick.json $seconds_of_quick "$program" verify --quick --json --device "$device"
# With every tile shape at awkward shapes and very long sums.
part verify-full.json $seconds_of_full "$program" verify --full --json --device "$device"
for model in "${models[@]}"; do
    # Autotuning compares the tile shapes of the model's products bit by bit before it times them.
    part "bench-$model.json" $((seconds_of_steps / ${#models[@]})) \
        "$program" bench --steps --model "$model" --json --device "$device" --seconds 1
    if grep -q 'compute other bits' "$out/bench-$model.json.log"; then
        fail "tile shapes of $model" "some compute other bits than the default one, see bench-$model.json.log"
    fi
    # shellcheck disable=SC2013 # words
    for way in $(awk -v model="$model" '$1 == model { $1 = ""; print }' <<<"$peer_models"); do
        declare -A flags=([eager]='' [compiled]='--compile default' [graphs]='--compile reduce-overhead')
        # shellcheck disable=SC2086 # two words or none
        part "pytorch-$model-$way.json" "${seconds_of_peer[$way]}" \
            python3 "$peers/pytorch.py" --model "$model" --device cuda --json ${flags[$way]}
    done
done
if ! grep -qs 'timed the tile shapes of' "$out"/bench-*.log; then
    leave_out 'bits of the tile shapes' 'no matrix product was autotuned, as on software adapters; verify-full.json compares values alone'
fi
# With the tile shapes that were chosen above.
for model in "${models[@]}"; do
    part "kernels-$model.json" $((seconds_of_kernels / ${#models[@]})) \
        "$program" bench --kernels --model "$model" --json --device "$device"
done
part operations-dcgan-64.json $seconds_of_operations "$program" bench --operations --model dcgan-64 --json --device "$device"

say "done after $SECONDS s; the results are in $out"
for part in "${left_out[@]}"; do echo "left out: $part" >&2; done
for part in "${failed[@]}"; do echo "failed: $part" >&2; done
[ ${#failed[@]} = 0 ] || exit 1
[ ${#left_out[@]} = 0 ] || exit 3
