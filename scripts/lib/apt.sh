# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Installing with apt, and the second apt source that gives Debian 12 its yyjson. Sourced by
# scripts/setup. Names no host: the address of Debian 13 is that of this machine's Debian 12.

apt_yyjson=(libyyjson0 libyyjson-dev)

as_root() {
    if [[ $EUID -eq 0 ]]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

apt_has() { [[ $(apt-cache policy "$1" 2>/dev/null) == *"Candidate: "[0-9]* ]]; }

# debian_entry DIR RELEASE: the entry of DIR (laid out as /etc/apt) that gives RELEASE's own main
# section, as "sources" or "list" and, from the second line on, its text.
debian_entry() {
    local file found
    for file in "$1"/sources.list.d/*.sources; do
        [[ -e $file ]] || continue
        found=$(awk -v release="$2" '
            function has(field, word) { return (" " value[field] " ") ~ (" " word " ") }
            function judge() {
                if (text != "" && has("types", "deb") && has("suites", release) &&
                    has("components", "main") && value["enabled"] !~ /no|false/ && !done) {
                    printf "%s", text
                    done = 1
                }
                text = ""; split("", value)
            }
            /^[ \t]*$/ { judge(); next }
            /^#/ { next }
            /^[^ \t]/ { field = tolower($1); sub(/:.*/, "", field) }
            { text = text $0 "\n"; line = $0; sub(/^[^ \t:]*:/, "", line); gsub(/[ \t]+/, " ", line)
              value[field] = value[field] " " line; gsub(/ +/, " ", value[field]) }
            END { judge() }' "$file")
        if [[ -n $found ]]; then
            printf 'sources\n%s\n' "$found"
            return
        fi
    done
    for file in "$1"/sources.list "$1"/sources.list.d/*.list; do
        [[ -e $file ]] || continue
        found=$(sed -nE "s/^[[:space:]]*(deb[[:space:]]+(\[[^]]*\][[:space:]]+)?[^[:space:]]+[[:space:]]+$2[[:space:]].*\bmain\b.*)/\1/p" \
            "$file" | head -n 1)
        if [[ -n $found ]]; then
            printf 'list\n%s\n' "$found"
            return
        fi
    done
    return 1
}

# renamed_entry OLD NEW: the entry on stdin for release NEW, main section alone.
renamed_sources() {
    awk -v old="$1" -v new="$2" '
        /^[^ \t]/ { field = tolower($1); sub(/:.*/, "", field) }
        field ~ /^(suites|components|types)$/ { next }
        field == "uris" { gsub(old, new) }
        { print }
        END { print "Types: deb\nSuites: " new "\nComponents: main" }'
}
renamed_list() {
    sed -E "s/$1/$2/g; s/^(deb[[:space:]]+(\[[^]]*\][[:space:]]+)?[^[:space:]]+[[:space:]]+$2)[[:space:]].*/\1 main/"
}

# write_yyjson_source DIR OLD NEW: a source of release NEW in DIR (laid out as /etc/apt) that only
# yyjson is taken from. The entry of OLD is its model: mirror, keyring and options stay.
write_yyjson_source() {
    local entry kind text
    entry=$(debian_entry "$1" "$2") || return 1
    kind=${entry%%$'\n'*}
    text=${entry#*$'\n'}
    mkdir -p "$1/sources.list.d" "$1/preferences.d"
    printf '%s\n' "$text" | "renamed_$kind" "$2" "$3" >"$1/sources.list.d/weir-$3.$kind"
    printf 'Package: *\nPin: release n=%s\nPin-Priority: 100\n\nPackage: %s\nPin: release n=%s\nPin-Priority: 500\n' \
        "$3" "${apt_yyjson[*]}" "$3" >"$1/preferences.d/weir-$3"
    chmod 644 "$1/sources.list.d/weir-$3.$kind" "$1/preferences.d/weir-$3"
}

add_yyjson_source() {
    local release
    release=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    [[ $release == bookworm ]] || fail "apt knows no libyyjson-dev on this system" \
        "weir's scripts know Debian 12 and 13; elsewhere install yyjson 0.6 or newer by hand."
    say "adding an apt source of Debian 13 for ${apt_yyjson[*]} alone: /etc/apt/sources.list.d/weir-trixie.*"
    as_root bash -euo pipefail -c "$(declare -p apt_yyjson)
        $(declare -f debian_entry renamed_sources renamed_list write_yyjson_source)
        write_yyjson_source /etc/apt bookworm trixie" ||
        fail "no entry for bookworm main found in /etc/apt" \
            "weir takes the address of Debian 13 from the entry of Debian 12 in sources.list(.d)."
    as_root apt-get -qq update || fail "apt-get update failed with the source of Debian 13" \
        "apt's own message is above; to undo: rm /etc/apt/sources.list.d/weir-trixie.*" \
        "/etc/apt/preferences.d/weir-trixie"
}

# apt_install PACKAGE...
apt_install() {
    have apt-get || fail "this system has no apt-get" "Install by hand what the line above names."
    if [[ $EUID -ne 0 ]] && ! have sudo; then
        fail "packages are missing and this user may not install them" \
            "As root run: apt-get install $*"
    fi
    say "apt-get update"
    as_root apt-get -qq update || fail "apt-get update failed" "apt's own message is above."
    if [[ " $* " == *" libyyjson-dev "* ]] && ! apt_has libyyjson-dev; then
        add_yyjson_source
    fi
    say "apt-get install $*"
    local quiet=(-qq -o Dpkg::Use-Pty=0) out=/dev/null
    if [[ -t 1 ]]; then
        quiet=(-q -o Dpkg::Progress-Fancy=1) out=/dev/stdout
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get "${quiet[@]}" -y --no-install-recommends \
        install "$@" >"$out" ||
        fail "apt-get could not install: $*" "apt's own message is above."
}
