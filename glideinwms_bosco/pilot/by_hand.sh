#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Starts one pilot of entry @ENTRY@ by hand, in a login shell or an interactive allocation:
#   bash SCRIPT --token FILE | --proxy FILE [--folder DIR]
# It holds no credential. FILE is the pool's token, or an X.509 proxy, of mode 0600 or 0400; pasted into a shell, the
# variables GWMS_BOSCO_TOKEN, GWMS_BOSCO_PROXY and GWMS_BOSCO_FOLDER name them. DIR is where the pilot works (TMPDIR).

gwms_bosco_hand() (
    entry=@ENTRY@ bosco_dir=@BOSCO_DIR@ wrapper_needed=@WRAPPER_NEEDED@ startup_sha256=@STARTUP_SHA256@
    token=${GWMS_BOSCO_TOKEN-} proxy=${GWMS_BOSCO_PROXY-} folder=${GWMS_BOSCO_FOLDER:-${TMPDIR:-/tmp}}
    work='' marker='' child='' signals=0

    say() { printf '%s\n' "pilot by hand: $1" >&2; }
    fail() { say "$1"; exit 1; }

    usage() {
        say 'usage: bash SCRIPT --token FILE | --proxy FILE [--folder DIR]'
        exit 2
    }

    # private WHAT FILE
    private() {
        local mode
        [[ -f $2 && -r $2 && -O $2 ]] || fail "the $1 $2 is no file of yours"
        mode=$(stat -L -c %a -- "$2")
        case $mode in
            600 | 400) ;;
            *) fail "the $1 $2 has mode $mode, so others may read it: chmod 600 $2" ;;
        esac
    }

    # keep FILE NAME: a copy in the pilot's folder, private from the start.
    keep() {
        (umask 077 && cat -- "$1" >"$work/$2") || fail "cannot write $work"
    }

    # shellcheck disable=SC2317 # called by a trap
    clean() {
        [[ -z $marker ]] || rm -f -- "$marker"
        [[ -z $work ]] || rm -rf -- "$work"
    }

    # Whoever is killed cannot remove the copies of its credentials; the next one does. A lock tells who lives, also on
    # another node that has the folder; it is held until the last process of that pilot has ended.
    # shellcheck disable=SC2317 # called where there is flock
    sweep() {
        local left
        for left in "$folder"/gwms-bosco-hand-????????; do
            [[ -d $left && ! -L $left && -O $left && -f $left/by-hand.lock ]] || continue
            # One that has only begun may not have its lock yet.
            [[ -n $(find "$left/by-hand.lock" -prune -mmin +1) ]] && flock -n "$left/by-hand.lock" true &&
                rm -rf --one-file-system -- "$left"
        done
    }

    # The empty file that `gwms-bosco remote status` counts. The job wrapper leaves its own.
    mark() {
        local node
        node=$(uname -n | tr -cd 'A-Za-z0-9._-' | cut -c 1-100)
        marker=$HOME/$bosco_dir/pilots/$node.$BASHPID.$(date +%s).hand
        (umask 077 && mkdir -p -- "${marker%/*}" && set -C && : >"$marker") 2>/dev/null || marker=''
    }

    startup() {
        base64 -d <<'STARTUP' | gzip -dc
@STARTUP@
STARTUP
    }

    while [[ $# -gt 0 ]]; do
        [[ $# -ge 2 ]] || usage
        case $1 in
            --token) token=$2 ;;
            --proxy) proxy=$2 ;;
            --folder) folder=$2 ;;
            *) usage ;;
        esac
        shift 2
    done
    [[ -n $token$proxy ]] || fail 'name a token or a proxy: --token FILE, --proxy FILE'
    [[ -z $token ]] || private token "$token"
    [[ -z $proxy ]] || private proxy "$proxy"
    trap clean EXIT
    work=$(umask 077 && mktemp -d "$folder/gwms-bosco-hand-XXXXXXXX") || fail "cannot make a folder in $folder"
    work=$(cd -P -- "$work" && pwd) || fail "cannot enter $work"
    if command -v flock >/dev/null && exec {lock}>"$work/by-hand.lock" && flock -n "$lock"; then sweep 2>/dev/null; fi
    startup >"$work/glidein_startup.sh"
    [[ $(sha256sum <"$work/glidein_startup.sh") == "$startup_sha256  -" ]] || fail 'this script is damaged; copy it again'
    chmod 0700 "$work/glidein_startup.sh"
    # Names that setup_x509.sh of glideinWMS looks for.
    [[ -z $token ]] || { keep "$token" credential_by-hand.idtoken; token=$work/credential_by-hand.idtoken; }
    [[ -z $proxy ]] || { keep "$proxy" by-hand.proxy; proxy=$work/by-hand.proxy; }
    unset GWMS_BOSCO_TOKEN GWMS_BOSCO_PROXY GWMS_BOSCO_FOLDER X509_USER_PROXY
    [[ -z $proxy ]] || export X509_USER_PROXY=$proxy
    arguments=(
@ARGUMENTS@
    )
    glite=$(readlink -f -- "$HOME/$bosco_dir/glite")
    wrapper=()
    if [[ -x $glite/egress/job_wrapper ]]; then
        wrapper=("$glite/egress/job_wrapper")
        export GWMS_BOSCO_PILOT_HOW=hand
    elif [[ $wrapper_needed == yes ]]; then
        fail "no job wrapper in ~/$bosco_dir/glite/egress: have it installed (gwms-bosco remote deploy)"
    else
        mark
    fi
    cd "$work" || fail "cannot enter $work"
    say "entry $entry, on $(uname -n), in $work"
    # An interactive shell's input is not the pilot's; a child behind & would ignore what Ctrl-C sends.
    for signal in HUP INT QUIT TERM; do
        trap 'signals=$((signals + 1)); [[ -z $child ]] || kill -s TERM "$child" 2>/dev/null' "$signal"
    done
    "${wrapper[@]}" "$work/glidein_startup.sh" "${arguments[@]}" </dev/null &
    child=$!
    [[ $signals == 0 ]] || kill -s TERM "$child" 2>/dev/null
    while :; do
        before=$signals
        wait "$child"
        status=$?
        # A signal of ours ends the wait; only another one has the pilot's own exit code.
        [[ $before == "$signals" ]] && break
    done
    trap '' HUP INT QUIT TERM
    say "ended with status $status"
    exit "$status"
)
gwms_bosco_hand "$@"
