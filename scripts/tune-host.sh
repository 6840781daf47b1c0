#!/usr/bin/env bash
# Shows (default) or sets the kernel settings that matter to a broker with many connections, and says what each does.
set -euo pipefail

usage() {
    cat <<'EOT'
Usage: scripts/tune-host.sh [--apply] [--connections N]

Without --apply nothing is changed: each setting is shown with its value, the value that N
connections ask for (default 1000000), and what it is good for. With --apply (as root) those
that are too low are set until the next boot; to keep them, put the lines that are printed
into /etc/sysctl.d/90-ringmq.conf.
EOT
}

apply=no
connections=1000000
while [ $# -gt 0 ]; do
    case "$1" in
        --apply) apply=yes ;;
        --connections) connections=${2:?--connections needs a number}; shift ;;
        -h|--help) usage; exit 0 ;;
        *) echo "unknown argument: $1" >&2; usage >&2; exit 2 ;;
    esac
    shift
done

descriptors=$((connections + 1000))
# name|least value|what it does
settings="
fs.nr_open|$descriptors|the most file descriptors that one process may be allowed (LimitNOFILE)
fs.file-max|$((descriptors * 2))|file descriptors of all processes together
net.core.somaxconn|4096|connections that may wait to be accepted; beyond it a client tries again a second later
net.ipv4.tcp_max_syn_backlog|8192|connections in the middle of their handshake
net.core.netdev_max_backlog|16384|packets that may wait between the network card and TCP
net.netfilter.nf_conntrack_max|$((connections * 2))|connections that the firewall can track, if it tracks any
"

wanting=0
while IFS='|' read -r name least purpose; do
    [ -n "$name" ] || continue
    path=/proc/sys/${name//.//}
    if [ ! -e "$path" ]; then
        printf -- '-     %-32s not on this machine\n' "$name"
        continue
    fi
    value=$(cat "$path")
    # The largest values do not fit into the shell's numbers: longer means larger.
    if [ "${#value}" -gt 18 ] || [ "$value" -ge "$least" ]; then
        printf 'ok    %-32s %-12s %s\n' "$name" "$value" "$purpose"
        continue
    fi
    if [ "$apply" = yes ]; then
        if sysctl -q -w "$name=$least"; then
            printf 'set   %-32s %s -> %s   %s\n' "$name" "$value" "$least" "$purpose"
            continue
        fi
        printf 'FAIL  %-32s %s cannot be set to %s: run as root, outside a container\n' "$name" "$value" "$least"
    else
        printf 'low   %-32s %-12s %s\n      %-32s -> sysctl -w %s=%s\n' "$name" "$value" "$purpose" '' "$name" "$least"
    fi
    wanting=$((wanting + 1))
done <<<"$settings"

hard=$(ulimit -Hn)
if [ "$hard" != unlimited ] && [ "$hard" -lt "$descriptors" ]; then
    printf 'low   %-32s %-12s file descriptors of a process started from this shell\n      %-32s -> LimitNOFILE=%s in the unit\n' 'ulimit -Hn' "$hard" '' "$descriptors"
    wanting=$((wanting + 1))
fi
[ "$wanting" -eq 0 ] || exit 1
