#!/usr/bin/env bash
# What idle connections cost the broker. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/memory.sh [OPTIONS] [CONNECTIONS]

Starts ringmq and opens idle connections [default: 10000], each with a keep-alive and one subscription of its own; then starts it anew and
opens a fifth as many. The difference is what a connection costs; the rest is there once (buffers that all connections share, the program).
Also printed: CPU time per connection, and the CPU time that the broker uses while they are silent.

  --rounds N         Runs, each with a broker of its own [default: 3]
  --seconds S        Seconds of silence [default: 3]
  --broker NAME      ringmq, mosquitto, or flashmq (FLASHMQ=PATH) [default: ringmq]
  --max-bytes N      Fail if a connection costs more than this (medians count) [default: no limit]
  --out FILE         Where the results go [default: results/memory-DATE.jsonl]
  --help             This text
END
}

rounds=3 seconds=3 shards=1 results= extra=() broker=ringmq limit=()
connections=10000
while (($#)); do
    case $1 in
        --rounds) rounds=$(value "$@"); shift 2 ;;
        --seconds) seconds=$(value "$@"); shift 2 ;;
        --broker) broker=$(value "$@"); shift 2 ;;
        --max-bytes) limit=(--max-connection-bytes "$(value "$@")"); shift 2 ;;
        --out) results=$(value "$@"); shift 2 ;;
        --help|-h) usage; exit ;;
        -*) die "unknown option $1 (see --help)" ;;
        *) connections=$1; shift ;;
    esac
done
PATH=$PATH:/usr/sbin:/usr/local/sbin
results=${results:-$root/results/memory-$(date -u +%Y%m%dT%H%M%SZ).jsonl}
mkdir -p "$(dirname "$results")"
build
choose_cpus
for ((round = 1; round <= rounds; round++)); do
    for count in $((connections / 5)) "$connections"; do
        start_broker "$broker"
        extra=(--set "subscribers=$count" --name "idle-$count")
        load idle-10k "$broker" "$round"
        stop_broker
    done
done
echo
"$perf_tool" report --yardstick "$broker" "${limit[@]}" "$results"
echo "raw results: $results"
