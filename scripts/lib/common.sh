# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Words that every script shares: where things are, how progress and failure are said, ports,
# processes. Sourced, never run. Changes nothing when sourced but `root`, `cache` and `venv`.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${WEIR_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/weir}
venv=$root/build/venv
kafka_version=4.1.1
kafka_jars=$cache/kafka-$kafka_version
export root cache venv kafka_version kafka_jars

if [[ -t 1 ]]; then
    bold=$'\e[1m' red=$'\e[31m' green=$'\e[32m' dim=$'\e[2m' plain=$'\e[0m'
else
    bold='' red='' green='' dim='' plain=''
fi
export bold red green dim plain

say() { printf '%s\n' "$*"; }
note() { printf '%s%s%s\n' "$dim" "$*" "$plain"; }
# What is wrong, then what to do about it, a line each.
fail() {
    local first=${1:-failed}
    shift || true
    printf '%s%s: %s%s\n' "$red" "${0##*/}" "$first" "$plain" >&2
    [[ $# -eq 0 ]] || printf '  %s\n' "$@" >&2
    exit 1
}
usage_error() {
    printf '%s: %s\nTry: %s --help\n' "${0##*/}" "$1" "$0" >&2
    exit 2
}
have() { command -v "$1" >/dev/null 2>&1; }

# The comment block at the head of the calling script is its help text.
show_help() { sed -n '3,/^[^#]/{/^#/!d;s/^# \{0,1\}//;p}' "$0"; }

# port_answers PORT: somebody listens there on the loopback.
port_answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# For a minute nobody else is given this port: who asked for it may not listen yet.
reserve_port() {
    local folder=/tmp/weir-ports-$UID
    mkdir -p "$folder"
    (
        flock 9
        [[ -z $(find "$folder/$1" -mmin -1 2>/dev/null) ]] && touch "$folder/$1"
    ) 9>"$folder/.lock"
}

# A loopback port that nobody listens on, below the range of outgoing connections and above that
# of the tests.
free_port() {
    local port try
    for ((try = 0; try < 200; try++)); do
        port=$((28000 + (RANDOM * 32768 + RANDOM) % 4600))
        if ! port_answers "$port" && reserve_port "$port"; then
            echo "$port"
            return
        fi
    done
    fail "found no free port between 28000 and 32599"
}

# A process is known by its id and its start time, so that a reused id is never taken for it.
process_start() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 1
    stat=${stat##*) }
    [[ ${stat:0:1} != Z ]] || return 1
    # shellcheck disable=SC2086  # word splitting is what takes the fields apart
    set -- $stat
    echo "${20}"
}
record_process() { echo "$1 $(process_start "$1")" >"$2"; }
# recorded_pid FILE: the id in FILE if that very process still runs.
recorded_pid() {
    local pid start
    { read -r pid start <"$1"; } 2>/dev/null || return 1
    [[ -n $start && $(process_start "$pid") == "$start" ]] || return 1
    echo "$pid"
}

# stop_process FILE SECONDS: asks the recorded process to end, then makes it.
stop_process() {
    local pid deadline=$((SECONDS + $2))
    pid=$(recorded_pid "$1") || return 0
    kill -CONT "$pid" 2>/dev/null || true
    kill -TERM "$pid" 2>/dev/null || true
    while recorded_pid "$1" >/dev/null; do
        if ((SECONDS >= deadline)); then
            kill -KILL "$pid" 2>/dev/null || true
        fi
        sleep 0.05
    done
}

# build_weir FOLDER LOG CMAKE-ARGUMENT...: configures and builds. On a terminal ninja shows its
# progress; elsewhere all of it goes to the log. `build_target` chooses a part of it.
build_weir() {
    local folder=$1 log=$2 launcher=()
    shift 2
    mkdir -p "$folder" "$(dirname "$log")"
    if have ccache; then
        launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
    fi
    cmake -S "$root" -B "$folder" -G Ninja "${launcher[@]}" "$@" >"$log" 2>&1 || return 1
    if [[ -t 1 ]]; then
        ninja -C "$folder" ${build_target:+"$build_target"}
    else
        ninja -C "$folder" ${build_target:+"$build_target"} >>"$log" 2>&1
    fi
}
# What of a build's log tells why it failed.
build_errors() { grep -vE '^\[[0-9]+/[0-9]+\] |^-- ' "$1" | tail -n 60; }
