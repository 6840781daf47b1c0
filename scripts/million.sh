#!/usr/bin/env bash
# A million clients of one broker on one machine, even one that allows a process few file descriptors. See --help.
source "$(dirname "${BASH_SOURCE[0]}")/perf-common.sh"

usage() {
    cat <<END
Usage: scripts/million.sh [OPTIONS] [CONNECTIONS...]

For each number of connections [default: 100000 250000 1000000]: starts ringmq with direct descriptors and as many shards as that takes, and
opens the connections from one process, each with a keep-alive and one subscription of its own. Then they are silent for a while, then each gets one message,
and every message is counted. Printed: memory of the broker, of the kernel for both ends, and of the clients, CPU time of the broker.
A million take about 10 GiB of memory in all; a run gives up before the machine has less than 2 GiB left.

  --shards N         Shards [default: 1, or as many as the limit of file descriptors asks for]
  --seconds S        Seconds of silence [default: 10]
  --set KEY=VALUE    A setting for the broker; may be repeated
  --out FILE         Where the results go [default: results/million-DATE.jsonl]
  --help             This text
END
}

seconds=10 shards= results= settings=() counts=()
while (($#)); do
    case $1 in
        --shards) shards=$(value "$@"); shift 2 ;;
        --seconds) seconds=$(value "$@"); shift 2 ;;
        --set) settings+=(--set "$(value "$@")"); shift 2 ;;
        --out) results=$(value "$@"); shift 2 ;;
        --help|-h) usage; exit ;;
        -*) die "unknown option $1 (see --help)" ;;
        *) counts+=("$1"); shift ;;
    esac
done
((${#counts[@]})) || counts=(100000 250000 1000000)
results=${results:-$root/results/million-$(date -u +%Y%m%dT%H%M%SZ).jsonl}
mkdir -p "$(dirname "$results")"
build
choose_cpus

# start_with_direct_descriptors SHARDS: as start_broker, on a port that no client comes from.
start_with_direct_descriptors() {
    broker_port=$(free_port)
    # Many shards share the memory for receive buffers; a storm of connections is given more time than a single client would be.
    # Huge pages would be rounded up in each of many threads.
    MIMALLOC_ALLOW_THP=0 taskset -c "$broker_cpu" "$ringmq" --listen "127.0.0.1:$broker_port" --shards "$1" --log warn --io uring --set io.direct_descriptors=on \
        --set io.recv_buffers=256 --set io.recv_buffer_bytes=2048 --set limits.connect_timeout_ms=60000 "${settings[@]}" \
        >"$scratch/ringmq.log" 2>&1 &
    broker_pid=$!
    local deadline=$((SECONDS + 20))
    until listens "$broker_port"; do
        kill -0 "$broker_pid" 2>/dev/null || { cat "$scratch/ringmq.log" >&2; broker_pid=; die "ringmq ended at once"; }
        ((SECONDS < deadline)) || die "ringmq does not listen after 20 s"
        sleep 0.05
    done
}

for count in "${counts[@]}"; do
    limit=$(ulimit -n)
    # Clients spread over the shards by chance, and some entries are for those on their way.
    enough=$(((count + count / 16 + limit - 1) / limit))
    start_with_direct_descriptors "${shards:-$enough}"
    taskset -c "$load_cpus" "$perf_tool" million --address "127.0.0.1:$broker_port" --pid "$broker_pid" --connections "$count" \
        --seconds "$seconds" --burst 256 --label "${shards:-$enough} shards" --json "$results"
    # Its first line says where it listens; all others are complaints.
    tail -n +2 "$scratch/ringmq.log" >&2
    stop_broker
done
echo "raw results: $results"
