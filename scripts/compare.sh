#!/usr/bin/env bash
# Runs scenarios against ringmq and other brokers in turn and prints ratios. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/compare.sh [OPTIONS] [SCENARIO...] [-- FLAGS OF ringmq-perf load]

Runs each scenario against each broker, every one on the same single core, in rounds whose order rotates; prints the median CPU time per
message and its ratio to ringmq's of the same round, with the spread. The brokers are those found: mosquitto on PATH (with and without
Nagle's algorithm, which is its default), FlashMQ where FLASHMQ=PATH names its binary.

  --rounds N         Rounds [default: 3]
  --seconds S        Measured seconds of each run [default: 3]
  --brokers LIST     Some of ringmq,mosquitto,mosquitto-nagle,flashmq,forwarder; the first is what the others are compared with.
                     forwarder is no broker: a bare epoll loop that shows what the generator can do at most [default: those found]
  --broker-cpu LIST  CPUs of the broker [default: the first]
  --load-cpus LIST   CPUs of the generator [default: the others]
  --out FILE         Where the results go [default: results/compare-DATE.jsonl]
  --help             This text

Scenarios [default: fanin pairs pairs-qos1 pairs-qos2 fanout sink connect]:
$(list_scenarios)
END
}

rounds=3 seconds=3 shards=1 results= extra=() brokers=()
chosen=()
while (($#)); do
    case $1 in
        --rounds) rounds=$(value "$@"); shift 2 ;;
        --seconds) seconds=$(value "$@"); shift 2 ;;
        --brokers) IFS=, read -ra brokers <<<"$(value "$@")"; shift 2 ;;
        --broker-cpu) broker_cpu=$(value "$@"); shift 2 ;;
        --load-cpus) load_cpus=$(value "$@"); shift 2 ;;
        --out) results=$(value "$@"); shift 2 ;;
        --help|-h) usage; exit ;;
        --) shift; extra=("$@"); break ;;
        -*) die "unknown option $1 (see --help)" ;;
        *) chosen+=("$1"); shift ;;
    esac
done
((${#chosen[@]})) || chosen=(fanin pairs pairs-qos1 pairs-qos2 fanout sink connect)
check_scenarios "${chosen[@]}"
PATH=$PATH:/usr/sbin:/usr/local/sbin
if ((${#brokers[@]} == 0)); then
    brokers=(ringmq)
    if command -v mosquitto >/dev/null; then brokers+=(mosquitto mosquitto-nagle); fi
    if [[ -n ${FLASHMQ:-} ]]; then brokers+=(flashmq); fi
fi
if ((${#brokers[@]} == 1)); then
    die "nothing to compare with: install mosquitto (Debian: apt install mosquitto) or give FLASHMQ=PATH"
fi
if [[ " ${brokers[*]} " == *" flashmq "* && ! -x ${FLASHMQ:-} ]]; then
    die "FLASHMQ must name FlashMQ's binary"
fi
results=${results:-$root/results/compare-$(date -u +%Y%m%dT%H%M%SZ).jsonl}
mkdir -p "$(dirname "$results")"
build
choose_cpus

number=0 all=$((rounds * ${#chosen[@]} * ${#brokers[@]}))
for ((round = 1; round <= rounds; round++)); do
    for scenario in "${chosen[@]}"; do
        for ((turn = 0; turn < ${#brokers[@]}; turn++)); do
            broker=${brokers[(round - 1 + turn) % ${#brokers[@]}]}
            number=$((number + 1))
            printf '[%d/%d] %-15s ' "$number" "$all" "$broker" >&2
            start_broker "$broker"
            load "$scenario" "$broker" "$round" || echo "$scenario failed" >&2
            stop_broker
        done
    done
done
echo
"$perf_tool" table --yardstick "${brokers[0]}" "$results"
echo "raw results: $results"
