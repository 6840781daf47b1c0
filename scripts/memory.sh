#!/usr/bin/env bash
# What idle connections and subscriptions cost the broker. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/memory.sh [OPTIONS] [CONNECTIONS]

Starts ringmq and opens idle connections [default: 10000], each with a keep-alive and one subscription of its own; then starts it anew and
opens a fifth as many. The difference is what a connection costs; the rest is there once (buffers that all connections share, the program).
Also printed: CPU time per connection, and the CPU time that the broker uses while they are silent.

With --filters the same for subscriptions instead: 100 connections subscribe to so many filters, each to its own, without wildcards, with + and with #.

  --rounds N         Runs, each with a broker of its own [default: 3]
  --seconds S        Seconds of silence [default: 3]
  --broker NAME      ringmq, mosquitto, or flashmq (FLASHMQ=PATH) [default: ringmq]
  --filters N        Subscriptions instead of connections
  --max-bytes N      Fail if a connection (a subscription) costs more than this (medians count) [default: no limit]
  --out FILE         Where the results go [default: results/memory-DATE.jsonl]
  --help             This text
END
}

rounds=3 seconds=3 shards=1 results= extra=() broker=ringmq most= filters=0
connections=10000
while (($#)); do
    case $1 in
        --rounds) rounds=$(value "$@"); shift 2 ;;
        --seconds) seconds=$(value "$@"); shift 2 ;;
        --broker) broker=$(value "$@"); shift 2 ;;
        --filters) filters=$(value "$@"); shift 2 ;;
        --max-bytes) most=$(value "$@"); shift 2 ;;
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
# run SCENARIO NAME KEY=VALUE: one run with a broker of its own.
run() {
    start_broker "$broker"
    extra=(--set "$3" --name "$2")
    load "$1" "$broker" "$round"
    stop_broker
}

for ((round = 1; round <= rounds; round++)); do
    if ((filters == 0)); then
        for count in $((connections / 5)) "$connections"; do
            run idle-10k "idle-$count" "subscribers=$count"
        done
        continue
    fi
    for kind in exact plus hash; do
        for count in $((filters / 5)) "$filters"; do
            run "filters-1k-$kind" "filters-$count-$kind" "filters=$count"
        done
    done
done
echo
limit=()
[[ -z $most ]] || limit=(--max-connection-bytes "$most" --max-subscription-bytes "$most")
"$perf_tool" report --yardstick "$broker" "${limit[@]}" "$results"
echo "raw results: $results"
