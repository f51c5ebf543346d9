#!/usr/bin/env bash
# Runs every target under libFuzzer, one after the other, until it was executed 1,000,000 times or 20 minutes have passed.
# usage: fuzz/run-all.sh [TARGET ...]     RUNS and SECONDS_EACH change the two limits. Needs cargo-fuzz and a nightly compiler.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${RUNS:-1000000} seconds=${SECONDS_EACH:-1200}
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
# One thread for each process, and files in memory: most targets read a file of a few hundred bytes.
export RAYON_NUM_THREADS=1
[ -d /dev/shm ] && export TMPDIR=/dev/shm
GPU_GAN_FUZZ_SEEDS=target/fuzz-corpus cargo test --release --locked --quiet --test fuzz no_fuzzed_file
for target in "${targets[@]}"; do
    [ -n "$(ls "target/fuzz-corpus/$target")" ] || { echo "error: $target has no seeds" >&2; exit 1; }
    echo "== $target"
    # The limits of tests/fuzz.rs: 10 s, and 1 GiB in one allocation.
    cargo +nightly fuzz run --sanitizer none "$target" "target/fuzz-corpus/$target" -- -runs="$runs" -max_total_time="$seconds" -timeout=10 -malloc_limit_mb=1025 \
        -rss_limit_mb=8192 -artifact_prefix="fuzz/findings/$target/" -print_final_stats=1 2>&1 | grep -E "stat::|SUMMARY|Done|artifact"
done
