#!/usr/bin/env bash
# Runs scenarios against ringmq: a table, raw results, and a page with plots. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/perf.sh [OPTIONS] [SCENARIO...] [-- FLAGS OF ringmq-perf load]

Builds ringmq, starts it on one core with one shard, runs each scenario from the other cores, in rounds, each with a broker of its own.
Prints a table with the noise between the rounds; writes raw results (a line of JSON for each run: machine, kernel, commit, settings, HDR
histograms) and one HTML page with plots that needs nothing else. Scenarios that a bare forwarder on the same socket driver can serve are
measured with it, too: what the broker takes beyond it is the price of being one.

  --all              Every scenario, not only those with a star
  --rounds N         Runs of each scenario [default: 3]
  --seconds S        Measured seconds of each run [default: 2]
  --shards N         Shards of the broker [default: 1]
  --no-bare          Without the bare forwarder
  --broker-cpu LIST  CPUs of the broker [default: the first]
  --load-cpus LIST   CPUs of the generator [default: the others]
  --realtime         Broker and generator go before everything else (SCHED_RR): for tails of latency on a shared machine. Takes root's rights
  --max-others CORES Leave out of the report (not of the raw results) runs during which others kept more cores busy [default: keep all]
  --out FILE         Where the raw results go, the page beside it [default: results/perf-DATE.jsonl]
  --help             This text

Scenarios [default: those with a star]; a file in perf/scenarios each. Change one for a run: -- --set payload=256
$(list_scenarios)
END
}

rounds=3 seconds=2 shards=1 results= extra=() bare=yes
chosen=()
while (($#)); do
    case $1 in
        --all) mapfile -t chosen < <(scenario_names); shift ;;
        --rounds) rounds=$(value "$@"); shift 2 ;;
        --seconds) seconds=$(value "$@"); shift 2 ;;
        --shards) shards=$(value "$@"); shift 2 ;;
        --no-bare) bare=no; shift ;;
        --broker-cpu) broker_cpu=$(value "$@"); shift 2 ;;
        --load-cpus) load_cpus=$(value "$@"); shift 2 ;;
        --realtime) first=(chrt -r 1) extra=(--realtime); shift ;;
        --max-others) report_flags=(--max-others "$(value "$@")"); shift 2 ;;
        --out) results=$(value "$@"); shift 2 ;;
        --help|-h) usage; exit ;;
        --) shift; extra+=("$@"); break ;;
        -*) die "unknown option $1 (see --help)" ;;
        *) chosen+=("$1"); shift ;;
    esac
done
((${#chosen[@]})) || mapfile -t chosen < <(scenarios_with headline)
check_scenarios "${chosen[@]}"
results=${results:-$root/results/perf-$(date -u +%Y%m%dT%H%M%SZ).jsonl}
mkdir -p "$(dirname "$results")"
build
choose_cpus

with_bare=" $([[ $bare == no ]] || scenarios_with bare | tr '\n' ' ') "
plan=()
for ((round = 1; round <= rounds; round++)); do
    for scenario in "${chosen[@]}"; do
        plan+=("$round $scenario ringmq")
        [[ $with_bare != *" $scenario "* ]] || plan+=("$round $scenario bare")
    done
done
status=0
run_plan "${plan[@]}" || status=$?
report ringmq
exit "$status"
