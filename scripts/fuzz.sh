#!/usr/bin/env bash
# Fuzzes ringmq: scripts/fuzz.sh [TARGET...] [--seconds N] [--jobs N]
#
# Without a target all of them run, one after the other, 60 seconds each; --jobs runs several of them at a time. New inputs are gathered in
# tests/fuzz/target/corpus, beside the committed corpus; an input that fails is left in tests/fuzz/artifacts and its log is shown.
# Needs a nightly toolchain and cargo-fuzz, and installs neither.
set -euo pipefail
cd "$(dirname "$0")/.."

fuzz=tests/fuzz
all=(decode round_trip topics shard recovery)
seconds=60
jobs=1
targets=()

usage() {
    sed -n '2,6s/^# \{0,1\}//p' "$0"
    echo "Targets: ${all[*]}"
}

while (($#)); do
    case $1 in
        --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
        -h | --help) usage; exit ;;
        *)
            [[ " ${all[*]} " == *" $1 "* ]] || { echo "no such target: $1" >&2; usage >&2; exit 2; }
            targets+=("$1")
            shift
            ;;
    esac
done
((${#targets[@]})) || targets=("${all[@]}")

cargo +nightly --version >/dev/null 2>&1 || { echo "needs a nightly toolchain: rustup toolchain install nightly" >&2; exit 1; }
cargo +nightly fuzz --version >/dev/null 2>&1 || { echo "needs cargo-fuzz: cargo install cargo-fuzz" >&2; exit 1; }

for target in "${targets[@]}"; do
    cargo +nightly fuzz build --fuzz-dir "$fuzz" "$target"
done

run() {
    local target=$1 log=$fuzz/target/$1.log new=$fuzz/target/corpus/$1 options=(-max_len=4096)
    mkdir -p "$new" "$fuzz/artifacts/$target"
    [[ -f $fuzz/$target.dict ]] && options+=("-dict=$fuzz/$target.dict")
    # The first directory takes what is new; the committed corpus is only read.
    if cargo +nightly fuzz run --fuzz-dir "$fuzz" "$target" "$new" "$fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 "${options[@]}" >"$log" 2>&1; then
        echo "$target: $(grep -o 'Done [0-9]* runs' "$log"), no finding, $(grep -o 'cov: [0-9]*' "$log" | tail -n 1)"
    else
        tail -n 40 "$log"
        echo "$target: FAILED, see $log and $fuzz/artifacts/$target" >&2
        return 1
    fi
}
export -f run
export fuzz seconds

mkdir -p "$fuzz/target"
printf '%s\n' "${targets[@]}" | xargs -n 1 -P "$jobs" bash -c 'set -euo pipefail; run "$0"'
