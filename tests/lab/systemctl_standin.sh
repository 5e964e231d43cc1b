#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Stands in for systemctl in lab hosts, which have no systemd: `enable --now UNIT` makes the folders that the unit names
# and starts its program under its account; passphrases come from /run/credentials/UNIT, where a test has put them.
# `disable --now`, by which packages go, ends it. EL's presets enable nothing.
set -eu

of_unit() {
    sed -n "s/^$1=//p" "$file" | tail -n 1
}

folder() { # base, directive
    name=$(of_unit "$2")
    [ -z "$name" ] || install -d -o "$user" -g "$group" -m "$(of_unit "${2}Mode")" "$1/$name"
}

case "$*" in
daemon-reload | "--no-reload preset "*) ;;
"--no-reload disable --now "*)
    unit=${4%.service}
    if pid=$(cat "/var/tmp/$unit.pid" 2>/dev/null); then
        rm "/var/tmp/$unit.pid"
        kill "$pid"
        timeout 10 tail --pid="$pid" -f /dev/null
    fi
    ;;
"enable --now "*)
    unit=${3%.service}
    file=/usr/lib/systemd/system/$unit.service
    user=$(of_unit User)
    group=$(of_unit Group)
    folder /run RuntimeDirectory
    folder /var/lib StateDirectory
    folder /var/log LogsDirectory
    credentials=/run/credentials/$unit
    install -d -m 0700 "$credentials"
    chown -R "$user" "$credentials"
    before=$(of_unit ExecStartPre)
    # shellcheck disable=SC2086 # the unit's own words
    [ -z "$before" ] || setpriv --reuid "$user" --regid "$group" --init-groups $before
    # shellcheck disable=SC2046
    setsid env RUNTIME_DIRECTORY="/run/$(of_unit RuntimeDirectory)" CREDENTIALS_DIRECTORY="$credentials" \
        setpriv --reuid "$user" --regid "$group" --init-groups $(of_unit ExecStart) \
        >>"/var/tmp/$unit.log" 2>&1 </dev/null &
    echo $! >"/var/tmp/$unit.pid"
    ;;
*)
    echo "systemctl stand-in: not known: $*" >&2
    exit 1
    ;;
esac
