#!/usr/bin/env bash
# Runs scenarios against ringmq and other brokers in turn and prints ratios. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/compare.sh [OPTIONS] [SCENARIO...] [-- FLAGS OF ringmq-perf load]

Runs each scenario against each broker, every one on the same single core, in rounds whose order rotates; prints the median CPU time per
message and its ratio to ringmq's of the same round, with the spread. The brokers are those found on PATH or named by a variable:
  mosquitto (MOSQUITTO=PATH; Debian: apt install mosquitto), flashmq (FLASHMQ), nanomq (NANOMQ), rumqttd (RUMQTTD), nats (NATS), emqx (EMQX)

  --rounds N         Rounds [default: 3]
  --seconds S        Measured seconds of each run [default: 2]
  --brokers LIST     Some of ringmq,mosquitto,mosquitto-nagle,flashmq,nanomq,rumqttd,nats,emqx,bare,forwarder; the first is what the others
                     are compared with. mosquitto-nagle leaves Nagle's algorithm on, which is its default. The last two are no brokers: bare is
                     the least that can serve on ringmq's socket driver, forwarder does it with epoll [default: those found]
  --all              Every scenario
  --broker-cpu LIST  CPUs of the broker [default: the first]
  --load-cpus LIST   CPUs of the generator [default: the others]
  --realtime         Broker and generator go before everything else (SCHED_RR): for tails of latency on a shared machine. Takes root's rights
  --max-others CORES Leave out of the report (not of the raw results) runs during which others kept more cores busy [default: keep all]
  --out FILE         Where the raw results go, the page beside it [default: results/compare-DATE.jsonl]
  --help             This text

Scenarios [default: ${usual[*]}]:
$(list_scenarios)
END
}

usual=(fanin pairs pairs-qos1 pairs-qos2 fanout bignum sink latency idle-10k)
rounds=3 seconds=2 shards=1 results= extra=() brokers=()
chosen=()
while (($#)); do
    case $1 in
        --all) mapfile -t chosen < <(scenario_names); shift ;;
        --rounds) rounds=$(value "$@"); shift 2 ;;
        --seconds) seconds=$(value "$@"); shift 2 ;;
        --brokers) IFS=, read -ra brokers <<<"$(value "$@")"; shift 2 ;;
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
((${#chosen[@]})) || chosen=("${usual[@]}")
check_scenarios "${chosen[@]}"
PATH=$PATH:/usr/sbin:/usr/local/sbin
others=(mosquitto flashmq nanomq rumqttd nats emqx)
if ((${#brokers[@]} == 0)); then
    brokers=(ringmq)
    for broker in "${others[@]}"; do
        [[ -z $(binary_of "$broker") ]] || brokers+=("$broker")
    done
fi
if ((${#brokers[@]} == 1)); then
    die "nothing to compare with: install mosquitto (Debian: apt install mosquitto) or name a broker's binary, such as FLASHMQ=PATH (see --help)"
fi
for broker in "${brokers[@]}"; do
    case $broker in
        ringmq|bare|forwarder) ;;
        *) [[ -x $(binary_of "$broker") ]] || die "$broker is not on PATH; ${broker^^}=PATH would say where it is" ;;
    esac
done
results=${results:-$root/results/compare-$(date -u +%Y%m%dT%H%M%SZ).jsonl}
mkdir -p "$(dirname "$results")"
build
choose_cpus

plan=()
for ((round = 1; round <= rounds; round++)); do
    for scenario in "${chosen[@]}"; do
        for ((turn = 0; turn < ${#brokers[@]}; turn++)); do
            plan+=("$round $scenario ${brokers[(round - 1 + turn) % ${#brokers[@]}]}")
        done
    done
done
# A scenario that another broker does not survive is told at the end; it is no reason to show nothing.
run_plan "${plan[@]}" || true
report "${brokers[0]}"
