# Shared by the measuring scripts; sourced by them, does nothing by itself.
#
# Starts brokers pinned to one core, runs the load generator on the others, ends only what it started. What a scenario is stands in
# perf/scenarios; a plan is a list of runs, each a round, a scenario and a broker.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
broker_pid=
broker_port=
first=()
broker_cpu=
load_cpus=
began=0
report_flags=()

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
        "retained_messages_delivery_limit 0" \
        "listen {" "  protocol mqtt" "  inet4_bind_address 127.0.0.1" "  port $broker_port" "  tcp_nodelay true" "}"
}

nanomq_config() {
    printf '%s\n' "listeners.tcp { bind = \"127.0.0.1:$broker_port\" }" "system { num_taskq_thread = 1, max_taskq_thread = 1, parallel = 32 }" \
        "mqtt { max_mqueue_len = 65535, retry_interval = 600s }" "log { to = [], level = error }"
}

rumqttd_config() {
    printf '%s\n' "id = 0" "[router]" "id = 0" "max_connections = 20000" "max_outgoing_packet_count = 1000" "max_segment_size = 104857600" \
        "max_segment_count = 10" "[v4.1]" "name = \"v4\"" "listen = \"127.0.0.1:$broker_port\"" "next_connection_delay_ms = 0" \
        "[v4.1.connections]" "connection_timeout_ms = 60000" "max_payload_size = 1048576" "max_inflight_count = 65000" "dynamic_filters = true"
}

nats_config() {
    printf '%s\n' "server_name: perf" "listen: \"127.0.0.1:-1\"" "max_pending: 4GB" "jetstream { store_dir: \"$scratch/nats\" }" \
        "mqtt { listen: \"127.0.0.1:$broker_port\" }"
}

# The binary of a broker that is not ringmq: from the variable of that name (FLASHMQ=PATH), or from PATH; empty if there is none.
binary_of() {
    case $1 in
        mosquitto|mosquitto-nagle) echo "${MOSQUITTO:-$(command -v mosquitto || true)}" ;;
        flashmq) echo "${FLASHMQ:-$(command -v flashmq || true)}" ;;
        nanomq) echo "${NANOMQ:-$(command -v nanomq || true)}" ;;
        rumqttd) echo "${RUMQTTD:-$(command -v rumqttd || true)}" ;;
        nats) echo "${NATS:-$(command -v nats-server || true)}" ;;
        emqx) echo "${EMQX:-$(command -v emqx || true)}" ;;
    esac
}

# What a broker says of its version, in a word or two.
version_of() {
    case $1 in
        ringmq) "$ringmq" --version | cut -d' ' -f2 ;;
        mosquitto|mosquitto-nagle) "$(binary_of "$1")" -h 2>&1 | sed -n 's/^mosquitto version //p' | head -1 ;;
        flashmq) "$(binary_of "$1")" --version 2>&1 | sed -n 's/^FlashMQ [Vv]ersion //p' | head -1 ;;
        nats) "$(binary_of "$1")" --version 2>&1 | sed 's/.*: //' | head -1 ;;
        bare|forwarder) ;;
        *) timeout 10 "$(binary_of "$1")" --version 2>&1 | head -1 | cut -c1-40 ;;
    esac || true
}

# start_broker NAME: starts it on $broker_cpu and waits until it listens; sets broker_pid and broker_port.
start_broker() {
    local name=$1 config=$scratch/config environment=()
    broker_port=$(free_port)
    case $name in
        ringmq) set -- "$ringmq" --listen "$broker_port" --shards "${shards:-1}" --log warn ;;
        mosquitto) mosquitto_config "set_tcp_nodelay true" >"$config"; set -- "$(binary_of mosquitto)" -c "$config" ;;
        mosquitto-nagle) mosquitto_config >"$config"; set -- "$(binary_of mosquitto)" -c "$config" ;;
        flashmq) flashmq_config >"$config"; set -- "$(binary_of flashmq)" --config-file "$config" ;;
        nanomq) nanomq_config >"$config"; set -- "$(binary_of nanomq)" start --conf "$config" ;;
        rumqttd) config=$config.toml; rumqttd_config >"$config"; set -- "$(binary_of rumqttd)" -c "$config" -q ;;
        nats) environment=(GOMAXPROCS=1); nats_config >"$config"; set -- "$(binary_of nats)" -c "$config" ;;
        emqx)
            environment=("EMQX_LISTENERS__TCP__DEFAULT__BIND=127.0.0.1:$broker_port" "EMQX_NODE__DATA_DIR=$scratch/emqx" EMQX_MQTT__MAX_INFLIGHT=65535
                EMQX_MQTT__MAX_MQUEUE_LEN=infinity)
            set -- "$(binary_of emqx)" foreground ;;
        bare) set -- "$perf_tool" bare --listen "127.0.0.1:$broker_port" ;;
        forwarder) set -- "$perf_tool" forwarder --listen "127.0.0.1:$broker_port" ;;
        *) die "no broker is called $name" ;;
    esac
    # mosquitto gives up root's rights before it reads its configuration again.
    chmod 755 "$scratch"
    env "${environment[@]}" "${first[@]}" taskset -c "$broker_cpu" "$@" >"$scratch/$name.log" 2>&1 &
    broker_pid=$!
    local deadline=$((SECONDS + 20))
    until listens "$broker_port"; do
        kill -0 "$broker_pid" 2>/dev/null || { cat "$scratch/$name.log" >&2; broker_pid=; die "$name ended at once"; }
        ((SECONDS < deadline)) || die "$name does not listen after 20 s"
        sleep 0.02
    done
}

scenario_names() {
    (cd "$root/perf/scenarios" && ls -- *.toml | sed 's/\.toml$//')
}

# Scenarios whose file says so: `headline` or `bare`.
scenarios_with() {
    (cd "$root/perf/scenarios" && grep -l "^$1 = true" -- *.toml | sed 's/\.toml$//')
}

list_scenarios() {
    local name star
    for name in $(scenario_names); do
        star=$(grep -q '^headline = true' "$root/perf/scenarios/$name.toml" && echo '*' || true)
        printf '  %-17s %1s %s\n' "$name" "$star" "$(sed -n 's/^title = "\(.*\)"$/\1/p' "$root/perf/scenarios/$name.toml")"
    done
}

check_scenarios() {
    local name
    for name in "$@"; do
        [[ -f $root/perf/scenarios/$name.toml ]] || die "no scenario is called $name; there are: $(scenario_names | tr '\n' ' ')"
    done
}

# load SCENARIO BROKER ROUND: runs the scenario against the running broker, appends to $results.
load() {
    local limit
    limit=$(awk -v seconds="$seconds" 'BEGIN { print int(seconds) + 150 }')
    timeout "$limit" taskset -c "$load_cpus" "$perf_tool" load "$1" --scenarios "$root/perf/scenarios" --broker "$2" --broker-version "$(version_of "$2")" \
        --round "$3" --address "127.0.0.1:$broker_port" --pid "$broker_pid" --seconds "$seconds" --json "$results" "${extra[@]}"
}

# progress DONE ALL WHAT: a bar on a terminal, a line elsewhere.
progress() {
    local done=$1 all=$2 what=$3 width=30 filled left=
    ((done == 0)) || left=$(((SECONDS - began) * (all - done) / done))
    filled=$((width * done / all))
    if [[ -t 2 ]]; then
        printf '\r\e[K[%s%s] %d/%d %s%s' "$(printf '%*s' "$filled" '' | tr ' ' '#')" "$(printf '%*s' $((width - filled)) '' | tr ' ' '-')" "$done" "$all" \
            "$what" "${left:+, $((left / 60)) min $((left % 60)) s left}" >&2
    else
        printf '[%d/%d] %s\n' "$((done + 1))" "$all" "$what" >&2
    fi
}

# How many shards a scenario wants, if it says so, in its file or in the one that it is like.
shards_of() {
    local file=$root/perf/scenarios/$1.toml wanted like
    wanted=$(sed -n 's/^shards = //p' "$file")
    like=$(sed -n 's/^like = "\(.*\)"$/\1/p' "$file")
    if [[ -n $wanted || -z $like ]]; then
        echo "$wanted"
    else
        shards_of "$like"
    fi
}

# start_broker_for SCENARIO BROKER: with as many shards as the scenario wants, each on a CPU of its own; where CPUs are few the generator shares one of them,
# and only CPU time counts.
start_broker_for() {
    local wanted
    wanted=$(shards_of "$1")
    if [[ -z $wanted ]]; then
        start_broker "$2"
        return
    fi
    [[ $2 == ringmq ]] || die "$1 is about the shards of ringmq"
    shards=$wanted broker_cpu=$(first_cpus "$wanted") start_broker "$2"
}

# The first N CPUs that this process may use, as a list.
first_cpus() {
    awk -v count="$1" '/^Cpus_allowed_list/ {
        ranges = split($2, range, ",")
        for (i = 1; i <= ranges; i++) {
            ends = split(range[i], end, "-")
            for (cpu = end[1]; cpu <= end[ends] && count > 0; cpu++) { list = list (list == "" ? "" : ",") cpu; count-- }
        }
        print list }' /proc/self/status
}

# run_plan ENTRY...: runs every "ROUND SCENARIO BROKER" in turn, each with a broker of its own. What fails is told in the end; gives their number.
run_plan() {
    local entry round scenario broker number=0 failed=() line
    began=$SECONDS
    for entry in "$@"; do
        read -r round scenario broker <<<"$entry"
        progress "$number" $# "$scenario: $broker"
        start_broker_for "$scenario" "$broker"
        if line=$(load "$scenario" "$broker" "$round" 2>"$scratch/load.log"); then
            [[ ! -t 2 ]] || printf '\r\e[K' >&2
            printf '%-10s %s\n' "$broker" "$line"
        else
            failed+=("$scenario against $broker: $(tail -1 "$scratch/load.log")")
        fi
        stop_broker
        number=$((number + 1))
    done
    [[ ! -t 2 ]] || printf '\r\e[K' >&2
    ((${#failed[@]} == 0)) || printf 'FAILED: %s\n' "${failed[@]}" >&2
    return $((${#failed[@]} > 0))
}

# The page with plots beside the raw results, and the table on the terminal.
report() {
    local html=${results%.jsonl}.html
    echo
    "$perf_tool" report --yardstick "$1" --html "$html" "${report_flags[@]}" "$results"
    echo "raw results: $results"
    echo "page with plots: $html"
}

# The value of an option that needs one.
value() {
    [[ $# -ge 2 ]] || die "$1 needs a value"
    echo "$2"
}
