#!/usr/bin/env bash
# Runs scenarios against ringmq and prints a table. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/perf.sh [OPTIONS] [SCENARIO...] [-- FLAGS OF ringmq-perf load]

Builds ringmq, starts it on one core with one shard, runs each scenario from the other cores, and prints a table.
Raw results are kept as lines of JSON, with machine, kernel, commit and settings.

  --rounds N         Runs of each scenario [default: 1]
  --seconds S        Measured seconds of each run [default: 3]
  --shards N         Shards of the broker [default: 1]
  --broker-cpu LIST  CPUs of the broker [default: the first]
  --load-cpus LIST   CPUs of the generator [default: the others]
  --out FILE         Where the results go [default: results/perf-DATE.jsonl]
  --help             This text

Scenarios [default: all]; a file in perf/scenarios each:
$(list_scenarios)
END
}

rounds=1 seconds=3 shards=1 results= extra=()
chosen=()
while (($#)); do
    case $1 in
        --rounds) rounds=$(value "$@"); shift 2 ;;
        --seconds) seconds=$(value "$@"); shift 2 ;;
        --shards) shards=$(value "$@"); shift 2 ;;
        --broker-cpu) broker_cpu=$(value "$@"); shift 2 ;;
        --load-cpus) load_cpus=$(value "$@"); shift 2 ;;
        --out) results=$(value "$@"); shift 2 ;;
        --help|-h) usage; exit ;;
        --) shift; extra=("$@"); break ;;
        -*) die "unknown option $1 (see --help)" ;;
        *) chosen+=("$1"); shift ;;
    esac
done
((${#chosen[@]})) || mapfile -t chosen < <(scenario_names)
check_scenarios "${chosen[@]}"
results=${results:-$root/results/perf-$(date -u +%Y%m%dT%H%M%SZ).jsonl}
mkdir -p "$(dirname "$results")"
build
choose_cpus

number=0 all=$((rounds * ${#chosen[@]}))
for ((round = 1; round <= rounds; round++)); do
    for scenario in "${chosen[@]}"; do
        number=$((number + 1))
        echo -n "[$number/$all] " >&2
        start_broker ringmq
        load "$scenario" ringmq "$round" || echo "$scenario failed" >&2
        stop_broker
    done
done
echo
"$perf_tool" table "$results"
echo "raw results: $results"
