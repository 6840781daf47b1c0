#!/usr/bin/env bash
# All tests of ringmq, as CI runs them. Needs Rust and gcc; what else is missing is skipped, and said so at the end.
#
#   scripts/test.sh                  everything
#   scripts/test.sh clippy clients   only these stages
#
# Stages, in this order:
#   format    rustfmt changes nothing
#   clippy    no warning, in any target, with and without the runtime
#   core      the core builds without the runtime, that is without an operating system's I/O
#   deny      licences, advisories and sources of the dependencies       (needs cargo-deny)
#   clients   foreign clients against the real broker, also one that is killed again and again (needs Python 3; Node.js for one of them)
#   loom      every interleaving of the rings and of the park protocol
#   miri      the rings and the codec in an interpreter that finds undefined behaviour      (needs a nightly toolchain with miri)
#   benches   each bench once, so that none can rot
#   instructions  no scenario of the core takes over 3 % more instructions than on record (needs valgrind)
#   tests     cargo test: unit, protocol, simulation, tidy, documentation
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

# Commands take the whole workspace or the core alone: what is in between would build the dependencies once more, with other features.
STAGES=(format clippy core deny clients loom miri benches instructions tests)
target=${CARGO_TARGET_DIR:-$PWD/target}
mkdir -p "$target"
log=$target/test-sh.log
summary=()
skipped=()

say() { printf '\n=== %s\n' "$*"; }

skip() {
    say "SKIPPED $1: $2"
    skipped+=("$1: $2")
}

# Runs a command and shows it, so that a failure can be repeated by hand.
run() {
    printf '+ %s\n' "$*"
    "$@"
}

has_component() { cargo "$1" --version >/dev/null 2>&1; }

stage_format() {
    has_component fmt || { skip format 'rustup component add rustfmt'; return; }
    run cargo fmt --all --check
    # A crate of its own, which `--all` does not reach.
    run rustfmt --check --edition 2024 tests/clients/rumqttc/src/main.rs
}

stage_clippy() {
    has_component clippy || { skip clippy 'rustup component add clippy'; return; }
    run cargo clippy --workspace --all-targets -- -D warnings
    run cargo clippy --no-default-features -- -D warnings
}

stage_core() {
    run cargo build --no-default-features
}

stage_deny() {
    has_component deny || { skip deny 'cargo install cargo-deny'; return; }
    local crate=(--config deny.toml --manifest-path tests/clients/rumqttc/Cargo.toml)
    run cargo deny --all-features check licenses bans sources
    run cargo deny "${crate[@]}" check licenses bans sources
    # The list of advisories is a git repository that is fetched anew.
    cargo deny fetch db 2>/dev/null || { skip advisories 'the RustSec database cannot be reached'; return; }
    run cargo deny --all-features check advisories
    run cargo deny "${crate[@]}" check advisories
}

stage_clients() {
    command -v python3 >/dev/null || { skip clients 'install Python 3.9 or newer'; return; }
    run cargo build --workspace
    run timeout --signal=INT 600 python3 tests/clients/run.py --ringmq "$target/debug/ringmq" --base "$target/clients" | tee "$log"
    # The broker dies twenty times under load, with the number of shards changing in between; then on a disk that fails, and forgets.
    local crash=(timeout --signal=INT 300 python3 tests/clients/crash.py --ringmq "$target/debug/ringmq" --base "$target/clients")
    run "${crash[@]}" --rounds 20 --shards 2,2,1,3
    command -v gcc >/dev/null || { skip 'crashes with power loss' 'install gcc'; return; }
    run "${crash[@]}" --rounds 10 --shards 2,1,3 --power-loss --failing-disk
    # It can fail: on a disk whose syncs are worth nothing.
    run "${crash[@]}" --rounds 10 --power-loss --lying-disk
    while IFS= read -r line; do
        skipped+=("clients: ${line#NOT TESTED: }")
    done < <(grep '^NOT TESTED: ' "$log")
}

stage_loom() {
    RUSTFLAGS='--cfg loom' run timeout 600 cargo test --no-default-features --lib --target-dir "$target/loom" ring::
}

stage_miri() {
    cargo +nightly miri --version >/dev/null 2>&1 || { skip miri 'rustup toolchain install nightly --component miri,rust-src'; return; }
    MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=4 run timeout 600 cargo +nightly miri test --no-default-features --lib \
        --target-dir "$target/miri" -- ring:: mqtt::tests::frame mqtt::tests::acknowledge mqtt::tests::publish
}

stage_benches() {
    # Without `--bench`, criterion runs each once and measures nothing.
    run timeout 600 cargo test --workspace --bench '*'
}

stage_instructions() {
    command -v valgrind >/dev/null || { skip instructions 'install valgrind (Debian: apt install valgrind)'; return; }
    run timeout 600 scripts/instructions.sh | tee "$log"
    ! grep -q '^not judged' "$log" || skipped+=("instructions: $(grep '^not judged' "$log")")
}

stage_tests() {
    run cargo test --workspace --no-run
    run timeout 600 cargo test --workspace 2>&1 | tee "$log"
}

# What cargo said, in one line for each test program.
results() {
    awk '/^ +(Running|Doc-tests) / { name = $0; sub(/^ +/, "", name); sub(/ \(.*/, "", name) }
         /^test result: / { printf "%s (%s)\n", $0, name }' "$log"
}

chosen=("$@")
[ ${#chosen[@]} -gt 0 ] || chosen=("${STAGES[@]}")
for stage in "${chosen[@]}"; do
    [[ " ${STAGES[*]} " == *" $stage "* ]] || { echo "no stage \"$stage\"; there are: ${STAGES[*]}" >&2; exit 2; }
done

current=start
trap 'code=$?; [ $code -eq 0 ] || say "FAILED in stage $current (exit code $code)"' EXIT
for stage in "${chosen[@]}"; do
    current=$stage
    say "$stage"
    began=$SECONDS
    "stage_$stage"
    summary+=("$(printf '%-12s %4d s' "$stage" $((SECONDS - began)))")
done

say "all stages passed, in $SECONDS s"
printf '%s\n' "${summary[@]}"
[ ${#skipped[@]} -eq 0 ] || printf 'SKIPPED %s\n' "${skipped[@]}"
[[ " ${chosen[*]} " != *' tests '* ]] || results
