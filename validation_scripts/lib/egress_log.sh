# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a closed site's pilots say where an operator can read it without a network: files on the shared home, one for each
# node and day. The home may be read-only, full or hang; nothing waits for it longer than a few seconds.

# Seconds for one visit to the home; bytes of one file; days that files stay.
GWMS_BOSCO_EGRESS_HOME_S=4
GWMS_BOSCO_EGRESS_LOG_BYTES=262144
GWMS_BOSCO_EGRESS_LOG_DAYS=14

# gwms_bosco_egress_node: this node's name, of characters that a file name may have.
gwms_bosco_egress_node() {
    uname -n | tr -cd 'A-Za-z0-9._-' | cut -c 1-100
}

# gwms_bosco_egress_log BOSCO_DIR TEXT [OUTPUT]: add a line to the node's file of today. OUTPUT is a file that may be written.
gwms_bosco_egress_log() {
    gwms_bosco_egress_visit "$1" "${3:-/dev/null}" gwms_bosco_egress_log_line "${HOME-}/$1/log/egress" \
        "$(gwms_bosco_egress_node)" "$(gwms_bosco_report_safe "$2" 1000)"
}

# gwms_bosco_egress_log_folder BOSCO_DIR: make the folder, so that it can be shown in a container.
gwms_bosco_egress_log_folder() {
    gwms_bosco_egress_visit "$1" /dev/null gwms_bosco_egress_log_make "${HOME-}/$1/log/egress"
}

# gwms_bosco_egress_visit BOSCO_DIR OUTPUT COMMAND...: what COMMAND does on the home; 1 when it fails.
gwms_bosco_egress_visit() {
    # A home that has hung once is not visited again by this process.
    [[ -z ${gwms_bosco_egress_home_hangs-} && -n $1 && ${HOME-} == /* ]] || return 1
    gwms_bosco_limit_run "$GWMS_BOSCO_EGRESS_HOME_S" "$2" "${@:3}"
    case $? in
        0) ;;
        124) gwms_bosco_egress_home_hangs=yes; return 1 ;;
        *) return 1 ;;
    esac
}

gwms_bosco_egress_log_make() {
    umask 077
    mkdir -p "$1" && [[ -O $1 && -w $1 ]]
}

# gwms_bosco_egress_log_line FOLDER NODE TEXT
gwms_bosco_egress_log_line() {
    local file size
    file=$1/$2.$(date -u +%Y%m%d).log
    gwms_bosco_egress_log_make "$1" && [[ ! -L $file ]] || return 1
    if [[ ! -e $file ]]; then
        find "$1" -maxdepth 1 -type f -name '*.log' -mtime "+$GWMS_BOSCO_EGRESS_LOG_DAYS" -exec rm -f {} + 2>/dev/null
    fi
    size=$(stat -c %s "$file" 2>/dev/null) || size=0
    [[ $size -lt $GWMS_BOSCO_EGRESS_LOG_BYTES ]] || return 1
    # One write: pilots of this node share the file.
    printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$3" >>"$file"
}

# gwms_bosco_egress_marker BOSCO_DIR NAME add|remove: the empty file that says a pilot runs, for `remote status`.
gwms_bosco_egress_marker() {
    gwms_bosco_egress_visit "$1" /dev/null gwms_bosco_egress_marker_set "${HOME-}/$1/pilots" "$2" "$3"
}

gwms_bosco_egress_marker_set() {
    umask 077
    case $3 in
        # No other file of that name may be emptied.
        add) mkdir -p "$1" && (set -C; : >"$1/$2") ;;
        remove) rm -f "$1/$2" ;;
    esac
}
