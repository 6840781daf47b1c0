#!/usr/bin/env bash
# Where the broker's time goes, as a flame graph. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/flamegraph.sh [OPTIONS] SCENARIO|PID [-- FLAGS OF ringmq-perf load]

Samples the stacks of a running process (PID), or of ringmq under a scenario, with perf, and draws them. For a scenario ringmq is built
with frame pointers in a directory of its own; a process that was built without them shows broken stacks.
Needs perf (Debian: apt install linux-perf) and the right to use it (root, or kernel.perf_event_paranoid <= 1). It samples by cpu-clock,
which works where a virtual machine has no hardware counters.

  --seconds S        Seconds that are sampled [default: 5]
  --frequency HZ     Samples per second [default: 997]
  --top N            Also print the N symbols that take most time themselves [default: 15]
  --out FILE         The picture [default: results/flamegraph-NAME-DATE.svg]
  --help             This text

Scenarios:
$(list_scenarios)
END
}

seconds=5 frequency=997 top=15 out= extra=() shards=1 subject=
while (($#)); do
    case $1 in
        --seconds) seconds=$(value "$@"); shift 2 ;;
        --frequency) frequency=$(value "$@"); shift 2 ;;
        --top) top=$(value "$@"); shift 2 ;;
        --out) out=$(value "$@"); shift 2 ;;
        --help|-h) usage; exit ;;
        --) shift; extra=("$@"); break ;;
        -*) die "unknown option $1 (see --help)" ;;
        *) subject=$1; shift ;;
    esac
done
[[ -n $subject ]] || die "which scenario or process? (see --help)"
command -v perf >/dev/null || die "perf is missing (Debian: apt install linux-perf)"

sample() {
    perf record -q -e cpu-clock -F "$frequency" -g -p "$1" -o "$scratch/perf.data" -- sleep "$seconds" || die "perf record failed"
}

name=$subject
if [[ $subject =~ ^[0-9]+$ ]]; then
    [[ -d /proc/$subject ]] || die "there is no process $subject"
    build
    sample "$subject"
else
    check_scenarios "$subject"
    build
    choose_cpus
    echo "building with frame pointers ..." >&2
    (cd "$root" && cargo build --release --quiet -p ringmq --config 'build.rustflags=["-Cforce-frame-pointers=yes"]' \
        --target-dir "$(target_dir)/frame-pointers")
    ringmq=$(target_dir)/frame-pointers/release/ringmq
    results=$scratch/results.jsonl
    start_broker ringmq
    sampled=$seconds
    # Measured, and so under load, longer than sampled.
    seconds=$((sampled + 3)) extra+=(--announce)
    while read -r line; do
        if [[ $line == measuring ]]; then
            seconds=$sampled
            sample "$broker_pid"
        else
            echo "$line"
        fi
    done < <(load "$subject" ringmq 1)
    [[ -s $scratch/perf.data ]] || die "the load failed"
    stop_broker
fi

out=${out:-$root/results/flamegraph-$name-$(date -u +%Y%m%dT%H%M%SZ).svg}
mkdir -p "$(dirname "$out")"
echo "samples by the function they were in:"
perf script -i "$scratch/perf.data" --no-inline 2>/dev/null | "$perf_tool" flames --title "$name" --top "$top" --out "$out" -
echo "flame graph: $out (folded stacks beside it)"
