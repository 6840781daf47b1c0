#!/usr/bin/env bash
# What idle connections cost the broker. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/memory.sh [OPTIONS] [CONNECTIONS]

Starts ringmq and opens idle connections [default: 10000], each with a keep-alive and one subscription of its own. Prints the broker's
resident memory and CPU time per connection, and the CPU time that it uses while they are silent. Before the connections come, some
traffic passes through the broker, so that what it holds once for all of them (its receive buffers) does not count as theirs.

  --rounds N         Runs, each with a broker of its own [default: 3]
  --seconds S        Seconds of silence [default: 3]
  --broker NAME      ringmq, mosquitto, or flashmq (FLASHMQ=PATH) [default: ringmq]
  --max-bytes N      Fail if a connection costs more than this (the median counts) [default: no limit]
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
measured=$results
for ((round = 1; round <= rounds; round++)); do
    echo -n "[$round/$rounds] " >&2
    start_broker "$broker"
    results=$scratch/warm-up.jsonl extra=(--publishers 50 --warm-up 0.5 --seconds 0.5)
    load sink "$broker" "$round" >/dev/null
    results=$measured extra=(--subscribers "$connections")
    load connect "$broker" "$round"
    stop_broker
done
echo
"$perf_tool" table --yardstick "$broker" "${limit[@]}" "$results"
echo "raw results: $results"
