#!/usr/bin/env bash
# Counts the instructions that a shard spends on a message, and compares them with bench/instructions.txt.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
    cat <<'EOT'
Usage: scripts/instructions.sh [--update]

Runs bench/instructions.rs under valgrind's callgrind and fails if a scenario takes over 3 %
more instructions a message than bench/instructions.txt says. Where that is on purpose, write
the new numbers with --update, and in the commit message why.
Compilers differ: with another rustc than the file names, the numbers are shown and not judged.
EOT
}

update=no
case "${1:-}" in
    --update) update=yes ;;
    -h|--help) usage; exit 0 ;;
    '') ;;
    *) usage >&2; exit 2 ;;
esac
if ! command -v valgrind >/dev/null; then
    echo "SKIPPED: valgrind is missing (Debian: apt-get install valgrind)"
    exit 0
fi

readonly file=bench/instructions.txt few=50 many=250 messages=100
compiler=$(rustc --version | cut -d' ' -f2)
binary=$(cargo bench --no-default-features --bench instructions --no-run --message-format=json 2>/dev/null |
    python3 -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("reason") == "compiler-artifact" and message["target"]["name"] == "instructions" and message.get("executable"):
        print(message["executable"])')
[ -n "$binary" ] || { echo "the bench was not built: cargo bench --no-default-features --bench instructions --no-run" >&2; exit 1; }

count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$binary" "$1" "$2" 2>&1 | awk '/Collected/ { print $4 }'
}

judged=yes
[ -e "$file" ] && grep -q "^# rustc $compiler\$" "$file" || judged=no
[ "$update" = no ] || printf '# Instructions a message, %s of them in a turn; scripts/instructions.sh --update writes this.\n# rustc %s\n' "$messages" "$compiler" >"$file.new"
failed=0
for scenario in one_to_one alternating fan_out acknowledged across; do
    each=$(( ($(count "$scenario" "$many") - $(count "$scenario" "$few")) / ((many - few) * messages) ))
    before=$(awk -v name="$scenario" '$1 == name { print $2 }' "$file" 2>/dev/null || true)
    verdict=''
    if [ "$update" = yes ]; then
        echo "$scenario $each" >>"$file.new"
    elif [ "$judged" = yes ] && [ -n "$before" ] && [ $((each * 100)) -gt $((before * 103 + 100)) ]; then
        verdict='  MORE THAN 3 % WORSE'
        failed=1
    fi
    printf '%-14s %6d instructions a message, before %s%s\n' "$scenario" "$each" "${before:--}" "$verdict"
done
[ "$update" = no ] || mv "$file.new" "$file"
[ "$judged" = yes ] || [ "$update" = yes ] || echo "not judged: $file is of another rustc than $compiler"
[ "$failed" -eq 0 ] || { echo "see scripts/instructions.sh --help" >&2; exit 1; }
