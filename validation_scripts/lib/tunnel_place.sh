# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# tunnel_* are set in one library of the tunnel and used in another; a failure in a chain of && is a failure of all.
# shellcheck disable=SC2015,SC2034,SC2154
# The node folder of a tunnel, which all pilots of one user and one egress.conf on a node share, and who uses it.
#
#   gate            locked for the moment in which somebody comes or goes
#   lock            locked by the supervisor whose ssh it is
#   users/PID.START locked by the supervisor of that wrapper: a lock tells who lives, across kill -9 and PID name spaces; not
#                   locked while a wrapper waits for its next supervisor, empty when the supervisor shall go
#   ports, proxychains.conf          as given to pilots; written when the tunnel first came up, and kept
#   state, reason, ssh, log, ssh.err, ssh_config, known_hosts, refused
#
# Everything in it is used relative to the working directory, which was checked after it was entered: nothing that happens
# to the path afterwards matters, nor do blanks in it. Nothing in it is executed.

# Seconds to wait for the gate.
GWMS_BOSCO_TUNNEL_GATE_S=20

# gwms_bosco_tunnel_place_enter CONF_FILE: make the folder where it is not there, enter it, and set tunnel_folder. All
# pilots of a node have to find the same one, so /tmp comes first: TMPDIR is often the job's own.
gwms_bosco_tunnel_place_enter() {
    local name place reasons='' digest
    digest=$(sha256sum <"$1") && [[ $digest =~ ^[0-9a-f]{64} ]] || {
        tunnel_reason='cannot make the digest of egress.conf'
        return 1
    }
    name=gwms-bosco-egress-$EUID-${digest:0:12}
    for place in "${GWMS_BOSCO_TUNNEL_TMP:-/tmp}" "${TMPDIR-}"; do
        [[ $place == /* && $place != *[[:cntrl:]]* ]] || continue
        tunnel_folder=${place%/}/$name
        if gwms_bosco_tunnel_place_ours "$place"; then
            return 0
        fi
        # Its last user of before may have removed it while we looked.
        if [[ ! -e $tunnel_folder ]] && gwms_bosco_tunnel_place_ours "$place"; then return 0; fi
        reasons+="${reasons:+; }$tunnel_reason"
    done
    tunnel_reason="no node folder: ${reasons:-neither /tmp nor TMPDIR is a folder}"
    return 1
}

gwms_bosco_tunnel_place_ours() {
    local above mode
    # Whoever may rename what lies in PLACE could give us another folder after every check.
    above=$(stat -L -c '%u %a' "$1" 2>/dev/null) || {
        tunnel_reason="$(gwms_bosco_report_safe "$1" 120) is not there"
        return 1
    }
    mode=$((8#${above#* }))
    if [[ ! ${above%% *} =~ ^(0|$EUID)$ || ( $((mode & 022)) != 0 && $((mode & 01000)) == 0 ) ]]; then
        tunnel_reason="others may rename files in $(gwms_bosco_report_safe "$1" 120)"
        return 1
    fi
    (umask 077 && mkdir "$tunnel_folder") 2>/dev/null
    if [[ -L $tunnel_folder || ! -d $tunnel_folder || ! -O $tunnel_folder ]]; then
        tunnel_reason="$(gwms_bosco_report_safe "$tunnel_folder" 160) is not a folder of our own"
        [[ -e $tunnel_folder || -L $tunnel_folder ]] || tunnel_reason="cannot make $(gwms_bosco_report_safe "$tunnel_folder" 160)"
        return 1
    fi
    # The folder entered is looked at, not the path.
    cd -P "$tunnel_folder" 2>/dev/null && [[ -O . && $(stat -c %a .) == 700 ]] || {
        tunnel_reason="$(gwms_bosco_report_safe "$tunnel_folder" 160) has not mode 0700"
        return 1
    }
}

# gwms_bosco_tunnel_place_own FOLDER: 0 when it is ours. The name of one that was removed is anybody's.
gwms_bosco_tunnel_place_own() {
    [[ -d $1 && ! -L $1 && -O $1 ]]
}

# gwms_bosco_tunnel_place_file: the calling script's ($$), by its start too: another PID name space may have the same numbers.
# tunnel_script_start is for who outlives the script.
gwms_bosco_tunnel_place_file() {
    echo "users/$$.${tunnel_script_start:-$(gwms_bosco_limit_start "$$")}"
}

# gwms_bosco_tunnel_place_join CONF_FILE WRAPPER_PID WRAPPER_START: enter the folder and be one of its users. Sets tunnel_user,
# tunnel_user_fd, and opens tunnel_lock_fd. The first to come clears what dead ones left.
gwms_bosco_tunnel_place_join() {
    local gate tries
    for tries in 1 2 3 4 5; do
        gwms_bosco_tunnel_place_enter "$1" || return 1
        { exec {gate}>>gate; } 2>/dev/null && flock -w "$GWMS_BOSCO_TUNNEL_GATE_S" "$gate" || {
            [[ . -ef $tunnel_folder ]] || continue
            tunnel_reason="cannot lock $tunnel_folder/gate: full disk, or no flock"
            cd / && rmdir "$tunnel_folder" 2>/dev/null
            return 1
        }
        # The last user of before may have removed it while we waited.
        if [[ gate -ef $tunnel_folder/gate && gate -ef /proc/$BASHPID/fd/$gate ]]; then
            gwms_bosco_tunnel_place_register "$2" "$3"
            tries=$?
            exec {gate}>&-
            return "$tries"
        fi
        exec {gate}>&-
    done
    tunnel_reason='the node folder is removed again and again'
    return 1
}

gwms_bosco_tunnel_place_register() {
    # Within $( ) it would be another.
    local own=$BASHPID file=users/$1.$2
    gwms_bosco_tunnel_place_used || gwms_bosco_tunnel_place_clear
    {
        # It is another supervisor's until it is locked.
        mkdir -p -m 0700 users && exec {tunnel_user_fd}>>"$file" && flock -n "$tunnel_user_fd" &&
            printf '%s %s\n' "$own" "$(gwms_bosco_limit_start "$own")" >"$file" && exec {tunnel_lock_fd}>>lock
    } 2>/dev/null && [[ -s $file ]] && { tunnel_user=$file; return 0; }
    tunnel_reason="cannot write into $tunnel_folder: full disk or quota"
    # That of a pilot which knows the ports stays.
    [[ -n $tunnel_answered ]] || gwms_bosco_tunnel_place_gone "$file"
    return 1
}

# gwms_bosco_tunnel_place_used: 0 when another lives that uses the folder; files of the dead are removed until one is met that
# lives: whoever comes or goes asks this at the gate, and a node may have a hundred pilots.
gwms_bosco_tunnel_place_used() {
    local user name
    for user in users/*; do
        [[ -f $user && $user != "${tunnel_user-}" ]] || continue
        flock -n "$user" true 2>/dev/null || return 0
        # A wrapper whose supervisor was killed: its pilot knows the ports, and the next supervisor needs them.
        name=${user#users/}
        ! gwms_bosco_limit_alive "${name%%.*}" "${name#*.}" || return 0
        rm -f "$user"
    done
    return 1
}

# What a user who was killed left, together with its ssh.
gwms_bosco_tunnel_place_clear() {
    gwms_bosco_tunnel_ssh_stale
    rm -f ports proxychains.conf state state.new reason ssh ssh.err ssh_config known_hosts refused log ./*.new
}

# gwms_bosco_tunnel_place_leave: be no user any more; the last one removes the folder.
gwms_bosco_tunnel_place_leave() {
    local gate
    { exec {gate}>>gate; } 2>/dev/null && flock -w "$GWMS_BOSCO_TUNNEL_GATE_S" "$gate"
    gwms_bosco_tunnel_place_gone "$tunnel_user"
    exec {gate}>&-
}

# gwms_bosco_tunnel_place_gone USER: leave, at the gate.
gwms_bosco_tunnel_place_gone() {
    rm -f "$1"
    gwms_bosco_tunnel_place_used && return
    gwms_bosco_tunnel_place_clear
    rm -rf users lock gate
    # Not another that has its name by now.
    [[ ! . -ef $tunnel_folder ]] || { cd / && rmdir "$tunnel_folder" 2>/dev/null; }
}

# gwms_bosco_tunnel_place_sweep: remove folders of ours for other versions of egress.conf whose users were all killed.
gwms_bosco_tunnel_place_sweep() (
    own=$tunnel_folder
    # Ours are locked, and this is another process group of descriptors: nothing of the folder in use is touched.
    exec {tunnel_user_fd}>&- {tunnel_lock_fd}>&-
    for tunnel_folder in "${own%-*}"-*; do
        [[ $tunnel_folder != "$own" && -d $tunnel_folder && ! -L $tunnel_folder && -O $tunnel_folder ]] || continue
        tunnel_user=''
        cd -P "$tunnel_folder" && { exec {gate}>>gate; } 2>/dev/null && flock -n "$gate" || continue
        if ! gwms_bosco_tunnel_place_used; then
            gwms_bosco_tunnel_place_clear
            rm -rf users lock gate
            cd / && rmdir "$tunnel_folder"
        fi
        exec {gate}>&-
    done
)

# gwms_bosco_tunnel_place_forget FOLDER USER: leave in the place of a supervisor who was killed; the next one, where it has
# begun, leaves by itself.
gwms_bosco_tunnel_place_forget() (
    tunnel_folder=$1 tunnel_user=''
    cd -P "$1" && { exec {gate}>>gate; } 2>/dev/null && flock -w "$GWMS_BOSCO_TUNNEL_GATE_S" "$gate" &&
        flock -n "$2" true 2>/dev/null && gwms_bosco_tunnel_place_gone "$2"
)

# gwms_bosco_tunnel_place_write NAME TEXT: at once; a full disk leaves the old one.
gwms_bosco_tunnel_place_write() {
    (umask 077 && printf '%s\n' "$2" >"$1.new") 2>/dev/null && mv -f "$1.new" "$1" 2>/dev/null
}
