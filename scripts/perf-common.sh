# Shared by the measuring scripts; sourced by them, does nothing by itself.
#
# Starts brokers pinned to one core, runs the load generator on the others, ends only what it started.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
broker_pid=
broker_port=
broker_cpu=
load_cpus=

die() {
    echo "$(basename "$0"): $*" >&2
    exit 1
}

stop_broker() {
    [[ -n $broker_pid ]] || return 0
    kill "$broker_pid" 2>/dev/null || true
    wait "$broker_pid" 2>/dev/null || true
    broker_pid=
}

clean_up() {
    stop_broker
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# The broker gets the first CPU that this process may use, the generator all others; --broker-cpu and --load-cpus say otherwise.
choose_cpus() {
    local allowed first rest
    allowed=$(awk '/^Cpus_allowed_list/ {print $2}' /proc/self/status)
    first=${allowed%%[,-]*}
    case $allowed in
        *,*|*-*) rest=$(taskset -c "$allowed" bash -c 'nproc') ;;
        *) rest=1 ;;
    esac
    if ((rest < 2)); then
        echo "only one CPU: broker and generator share it, the figures say little" >&2
        broker_cpu=${broker_cpu:-$first}
        load_cpus=${load_cpus:-$first}
        return
    fi
    broker_cpu=${broker_cpu:-$first}
    case $allowed in
        "$first"-*) load_cpus=${load_cpus:-$((first + 1))-${allowed#*-}} ;;
        *) load_cpus=${load_cpus:-${allowed#*,}} ;;
    esac
}

target_dir() {
    echo "${CARGO_TARGET_DIR:-$root/target}"
}

build() {
    echo "building (release) ..." >&2
    (cd "$root" && cargo build --release --quiet -p ringmq -p ringmq-perf)
    ringmq=${RINGMQ:-$(target_dir)/release/ringmq}
    perf_tool=$(target_dir)/release/ringmq-perf
    # As many connections as this machine allows.
    ulimit -n "$(ulimit -Hn)"
}

listens() {
    (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

# A port on loopback that nobody listens on.
free_port() {
    local port
    for ((port = 20000 + RANDOM % 5000; port < 32000; port++)); do
        listens "$port" || { echo "$port"; return; }
    done
    die "no free port"
}

mosquitto_config() {
    printf '%s\n' "listener $broker_port 127.0.0.1" "allow_anonymous true" "persistence false" "log_type none" "max_queued_messages 0" \
        "max_inflight_messages 0" "sys_interval 0" "$@"
}

flashmq_config() {
    printf '%s\n' "allow_anonymous true" "thread_count 1" "log_level warning" "rlimit_nofile $(ulimit -Hn)" "max_qos_msg_pending_per_client 65535" \
        "max_qos_bytes_pending_per_client 268435455" "client_max_write_buffer_size 268435456" \
        "listen {" "  protocol mqtt" "  inet4_bind_address 127.0.0.1" "  port $broker_port" "  tcp_nodelay true" "}"
}

# start_broker NAME: starts it on $broker_cpu and waits until it listens; sets broker_pid and broker_port.
start_broker() {
    local name=$1 config=$scratch/config
    broker_port=$(free_port)
    case $name in
        ringmq) set -- "$ringmq" --listen "$broker_port" --shards "${shards:-1}" --log warn ;;
        mosquitto) mosquitto_config "set_tcp_nodelay true" >"$config"; set -- mosquitto -c "$config" ;;
        mosquitto-nagle) mosquitto_config >"$config"; set -- mosquitto -c "$config" ;;
        flashmq) flashmq_config >"$config"; set -- "$FLASHMQ" --config-file "$config" ;;
        forwarder) set -- "$perf_tool" forwarder --listen "127.0.0.1:$broker_port" ;;
        *) die "no broker is called $name" ;;
    esac
    # mosquitto gives up root's rights before it reads its configuration again.
    chmod 755 "$scratch"
    taskset -c "$broker_cpu" "$@" >"$scratch/$name.log" 2>&1 &
    broker_pid=$!
    local deadline=$((SECONDS + 10))
    until listens "$broker_port"; do
        kill -0 "$broker_pid" 2>/dev/null || { cat "$scratch/$name.log" >&2; broker_pid=; die "$name ended at once"; }
        ((SECONDS < deadline)) || die "$name does not listen after 10 s"
        sleep 0.02
    done
}

scenario_names() {
    (cd "$root/perf/scenarios" && ls)
}

list_scenarios() {
    local name
    for name in $(scenario_names); do
        printf '  %-12s %s\n' "$name" "$(sed -n 's/^# //p' "$root/perf/scenarios/$name" | head -1)"
    done
}

# load SCENARIO BROKER ROUND: runs the scenario of that name against the running broker, appends to $results.
load() {
    local file=$root/perf/scenarios/$1 words
    read -ra words < <(grep -v '^#' "$file")
    taskset -c "$load_cpus" "$perf_tool" load "${words[@]}" --name "$1" --broker "$2" --round "$3" --address "127.0.0.1:$broker_port" \
        --pid "$broker_pid" --seconds "$seconds" --json "$results" "${extra[@]}"
}

check_scenarios() {
    local name
    for name in "$@"; do
        [[ -f $root/perf/scenarios/$name ]] || die "no scenario is called $name; there are: $(scenario_names | tr '\n' ' ')"
    done
}

# The value of an option that needs one.
value() {
    [[ $# -ge 2 ]] || die "$1 needs a value"
    echo "$2"
}
