# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# tunnel_* are set in one library of the tunnel and used in another; a failure in a chain of && is a failure of all.
# shellcheck disable=SC2015,SC2034,SC2154
# The tunnel of a closed site: one supervised ssh per node, shared by the pilots of a user.
#
# Every wrapper has a supervisor in its own job, so that the batch system ends it with the job. They contend for a lock; who
# has it runs ssh. When that one goes, however, the next takes over on the same ports; and a wrapper whose supervisor was
# killed gets another. Connections through the tunnel end with their ssh; new ones find the same port.
#
# Another user of the node can listen on the port while ssh is away, since nothing but ssh can hold it from a shell. That is
# seen and named, the tunnel then counts as DOWN, and no other port is given out; the login comes before the port is taken,
# so that a short loss leaves it open for about a second. What cannot be prevented is that programs which connect in that time
# talk to the other user: HTCondor, https and CVMFS verify whom or what they get, plain http by the web proxy does not.
# Processes of the same user (payloads without a container of their own) can use the tunnel, kill it, or change all this.
# gwms-bosco-include: lib/report.sh lib/limit.sh lib/cvmfs_conf.sh lib/egress_conf.sh lib/tunnel_conf.sh lib/tunnel_place.sh lib/tunnel_ssh.sh

# Seconds in which a start succeeds or fails.
GWMS_BOSCO_TUNNEL_START_S=${GWMS_BOSCO_TUNNEL_START_S:-120}
# Refused logins in a row, after which a start fails, and a tunnel that was up waits REFUSED_S before each further one.
GWMS_BOSCO_TUNNEL_REFUSED_MAX=3
GWMS_BOSCO_TUNNEL_REFUSED_S=${GWMS_BOSCO_TUNNEL_REFUSED_S:-600}
# Longest pause between two rounds over the login nodes, and the spread of the first one, as many nodes start at once.
GWMS_BOSCO_TUNNEL_BACKOFF_MAX_S=30
GWMS_BOSCO_TUNNEL_SPREAD_MS=${GWMS_BOSCO_TUNNEL_SPREAD_MS:-1500}
# A connection that held so long was a good one: the pauses begin anew.
GWMS_BOSCO_TUNNEL_GOOD_S=10
# Seconds between looks at the egress proxy.
GWMS_BOSCO_TUNNEL_PROBE_S=${GWMS_BOSCO_TUNNEL_PROBE_S:-60}
# The log keeps its last LOG_LINES to 2 x LOG_LINES lines.
GWMS_BOSCO_TUNNEL_LOG_LINES=200
GWMS_BOSCO_TUNNEL_STOP_S=15

# gwms_bosco_tunnel_start CONF_FILE: the node folder on stdout when the tunnel is up. 1 with the reason on stderr when it is
# not within GWMS_BOSCO_TUNNEL_START_S, or cannot be. The tunnel serves the calling script ($$) until that ends or calls stop.
gwms_bosco_tunnel_start() {
    local feed word='' rest='' until=$((SECONDS + GWMS_BOSCO_TUNNEL_START_S + 60))
    exec {feed}< <(gwms_bosco_tunnel_supervise "$1" "$$" "$(gwms_bosco_limit_start "$$")")
    # In slices, as traps of the script run only between them. A slice may end in the middle of the answer.
    while [[ $SECONDS -lt $until ]]; do
        IFS= read -r -t 0.5 -u "$feed" rest
        [[ $? -gt 128 ]] || until=0
        word+=$rest
    done
    exec {feed}<&-
    rest=${word#* } word=${word%% *}
    case $word in
        up) printf '%s\n' "$rest" ;;
        failed) printf '%s\n' "$rest" >&2; return 1 ;;
        *) printf 'the supervisor of the tunnel was killed or gave no answer\n' >&2; return 1 ;;
    esac
}

# gwms_bosco_tunnel_stop [FOLDER]: use the tunnel no more; 0 when the supervisor of this script has gone. One that is only
# just beginning (lib/tunnel_again.sh) goes within a second of the script.
gwms_bosco_tunnel_stop() {
    local folder=${1:-${GWMS_BOSCO_EGRESS_DIR-}} file supervisor='' start='' until=$((SECONDS + GWMS_BOSCO_TUNNEL_STOP_S))
    file=$(gwms_bosco_tunnel_place_file)
    gwms_bosco_tunnel_place_own "$folder" && [[ -e $folder/$file ]] || return 0
    { read -r supervisor start <"$folder/$file"; } 2>/dev/null
    # What tells the supervisor; the signal makes it look.
    : >"$folder/$file"
    while gwms_bosco_limit_alive "$supervisor" "$start"; do
        if [[ $SECONDS -lt $until ]]; then kill -USR1 "$supervisor"; else kill -9 "$supervisor"; fi 2>/dev/null
        gwms_bosco_limit_pause 0.1
    done
    # One that was killed has left it.
    [[ ! -e $folder/$file ]] || gwms_bosco_tunnel_place_forget "$folder" "$file"
}

# gwms_bosco_tunnel_state FOLDER: `UP EPOCH` or `DOWN EPOCH REASON`; EPOCH is since when. UP of a supervisor who was killed
# is not believed.
gwms_bosco_tunnel_state() {
    local word='' since='' reason='' owner port
    if gwms_bosco_tunnel_place_own "$1"; then
        port=$(gwms_bosco_conf_read "$1/ports" PROXY 2>/dev/null)
        { read -r word since <"$1/state"; } 2>/dev/null
    fi
    if [[ $word != UP ]]; then
        [[ -z $word ]] || { read -r reason <"$1/reason"; } 2>/dev/null
    elif [[ -e $1/lock ]] && flock -n "$1/lock" true 2>/dev/null; then
        word=DOWN reason='nobody looks after the tunnel'
        printf -v since '%(%s)T' -1
        (cd "$1" && gwms_bosco_tunnel_place_write state "DOWN $since" && gwms_bosco_tunnel_place_write reason "$reason")
    elif owner=$(gwms_bosco_tunnel_port_owner "$port") && [[ $owner != "$EUID" ]]; then
        word=DOWN reason="port $port on this node is in the hands of user id $owner"
        printf -v since '%(%s)T' -1
    fi
    [[ $since =~ ^[0-9]+$ ]] || { word=DOWN reason='there is no tunnel'; printf -v since '%(%s)T' -1; }
    printf '%s\n' "$word $since${reason:+ $reason}"
}

# gwms_bosco_tunnel_supervise CONF_FILE WRAPPER_PID WRAPPER_START [again]: answer `up FOLDER` or `failed REASON` once on
# stdout, and stay until the wrapper is gone or has said stop. No signal alone ends it: batch systems send them to every
# process of a job, as a warning too, and a pilot that shuts down needs its network until the end. With `again` the wrapper has
# had its answer, and pilots know the ports: no start fails any more.
gwms_bosco_tunnel_supervise() {
    local conf=$1
    [[ $conf == /* ]] || conf=$PWD/$conf
    tunnel_wrapper=$2 tunnel_wrapper_start=$3
    tunnel_stop='' tunnel_looked='' tunnel_answered=${4-} tunnel_failure='' tunnel_ssh=''
    tunnel_deadline=$((SECONDS + GWMS_BOSCO_TUNNEL_START_S)) tunnel_refusals=0 tunnel_backoff=1 tunnel_log_count=-1
    tunnel_self=$BASHPID tunnel_user=''
    trap '' TERM INT HUP QUIT PIPE XFSZ USR2 XCPU ALRM
    trap gwms_bosco_tunnel_told USR1
    gwms_bosco_tunnel_alone
    if gwms_bosco_tunnel_needs && gwms_bosco_tunnel_conf_load "$conf" &&
        gwms_bosco_tunnel_place_join "$conf" "$tunnel_wrapper" "$tunnel_wrapper_start"; then
        gwms_bosco_tunnel_place_sweep
        if gwms_bosco_tunnel_contend; then gwms_bosco_tunnel_hold; fi
        gwms_bosco_tunnel_place_leave
    else
        tunnel_failure=$tunnel_reason
    fi
    gwms_bosco_tunnel_answer "failed ${tunnel_failure:-the script that started it has ended}"
}

# The wrapper empties the file, which a full disk cannot hinder.
gwms_bosco_tunnel_told() {
    [[ -z $tunnel_user || ! -e $tunnel_user || -s $tunnel_user ]] || tunnel_stop=yes
}

# Nothing of the wrapper's: no open files, which somebody may wait to be closed, no preload, no words of ssh in translation.
gwms_bosco_tunnel_alone() {
    local fd
    set +eu +o pipefail
    IFS=$' \t\n'
    for fd in /proc/"$BASHPID"/fd/*; do
        fd=${fd##*/}
        # bash keeps its script at 255.
        [[ $fd =~ ^[0-9]+$ && $fd -gt 2 && $fd != 255 ]] && eval "exec $fd>&-"
    done
    exec </dev/null 2>/dev/null
    unset gwms_bosco_pause_fd LD_PRELOAD PROXYCHAINS_CONF_FILE PROXYCHAINS_QUIET_MODE SSH_AUTH_SOCK SSH_ASKPASS DISPLAY
    # ssh runs its commands by it.
    export SHELL=/bin/sh LC_ALL=C
    umask 077
    tunnel_dies=()
    if setpriv --pdeathsig KILL true; then tunnel_dies=(setpriv --pdeathsig KILL); fi
}

gwms_bosco_tunnel_needs() {
    local program
    for program in ssh flock sha256sum awk; do
        command -v "$program" >/dev/null || { tunnel_reason="this node has no $program"; return 1; }
    done
}

gwms_bosco_tunnel_answer() {
    [[ -z $tunnel_answered ]] || return 0
    tunnel_answered=yes
    printf '%s\n' "$1"
    exec >/dev/null
}

# gwms_bosco_tunnel_wanted: 0 while the wrapper lives, nobody said stop, and a start is not late.
gwms_bosco_tunnel_wanted() {
    [[ -z $tunnel_stop ]] || return 1
    [[ $SECONDS != "$tunnel_looked" ]] || return 0
    tunnel_looked=$SECONDS
    if ! gwms_bosco_limit_alive "$tunnel_wrapper" "$tunnel_wrapper_start"; then
        tunnel_stop=yes
    elif [[ -z $tunnel_answered && $SECONDS -ge $tunnel_deadline ]]; then
        { read -r tunnel_failure <reason; } 2>/dev/null
        tunnel_stop=yes tunnel_failure="no tunnel within $GWMS_BOSCO_TUNNEL_START_S s: ${tunnel_failure:-no reason known}"
    fi
    [[ -z $tunnel_stop ]]
}

# gwms_bosco_tunnel_contend: 0 when the lock is ours; until then tell the wrapper what becomes of another's tunnel.
gwms_bosco_tunnel_contend() {
    local wait
    while gwms_bosco_tunnel_follow && gwms_bosco_tunnel_wanted; do
        ! flock -n "$tunnel_lock_fd" || return 0
        # Not longer at a time, as it would outlive a supervisor who is killed. What it locks is the file as opened here.
        exec {wait}< <(exec {tunnel_user_fd}>&-; exec flock -w 5 "$tunnel_lock_fd")
        while read -r -t "$([[ -n $tunnel_answered ]] && echo 1 || echo 0.2)" -u "$wait"; [[ $? -gt 128 ]]; do
            gwms_bosco_tunnel_follow && gwms_bosco_tunnel_wanted || break 2
        done
        exec {wait}<&-
    done
    return 1
}

gwms_bosco_tunnel_follow() {
    local word=''
    [[ -z $tunnel_answered ]] || return 0
    if [[ -s refused ]]; then
        read -r tunnel_failure <refused
        return 1
    fi
    { read -r word _ <state; } 2>/dev/null
    [[ $word != UP ]] || gwms_bosco_tunnel_answer "up $tunnel_folder"
}

# gwms_bosco_tunnel_hold: run ssh while it is wanted.
gwms_bosco_tunnel_hold() {
    local first
    gwms_bosco_tunnel_ssh_stale
    # Where it is gone, the one from before will do.
    cat "$tunnel_known_hosts" >known_hosts.new && mv -f known_hosts.new known_hosts
    gwms_bosco_tunnel_down 'a supervisor has begun'
    first=$((RANDOM % ${#tunnel_logins[@]}))
    tunnel_logins=("${tunnel_logins[@]:first}" "${tunnel_logins[@]:0:first}")
    if [[ -s ports ]]; then
        tunnel_port=$(gwms_bosco_conf_read ports PROXY) tunnel_web_port=$(gwms_bosco_conf_read ports WEB)
    elif [[ -n ${tunnel_again_port-} ]]; then
        # Somebody has removed the folder, and a pilot knows these.
        tunnel_port=$tunnel_again_port tunnel_web_port=$tunnel_again_web_port
        gwms_bosco_tunnel_ports_write
    else
        gwms_bosco_tunnel_ports_choose
        gwms_bosco_tunnel_pause "$((RANDOM % (GWMS_BOSCO_TUNNEL_SPREAD_MS + 1)))"
    fi
    while gwms_bosco_tunnel_wanted; do
        if gwms_bosco_tunnel_round; then gwms_bosco_tunnel_keep; fi
        gwms_bosco_tunnel_refused || break
        gwms_bosco_tunnel_pause "$((tunnel_backoff * (500 + RANDOM % 1001)))"
        tunnel_backoff=$((tunnel_backoff * 2))
        [[ $tunnel_backoff -le $GWMS_BOSCO_TUNNEL_BACKOFF_MAX_S ]] || tunnel_backoff=$GWMS_BOSCO_TUNNEL_BACKOFF_MAX_S
    done
    gwms_bosco_tunnel_ssh_end
    gwms_bosco_tunnel_down 'its supervisor ended'
}

# Each login node once, the one that worked last first; 0 when one is up.
gwms_bosco_tunnel_round() {
    local host tries=0
    for host in "${tunnel_logins[@]}"; do
        gwms_bosco_tunnel_wanted || return 1
        if gwms_bosco_tunnel_ssh_try "$host"; then
            gwms_bosco_tunnel_up "$host"
            return 0
        fi
        [[ $tunnel_result != stopped ]] || return 1
        gwms_bosco_tunnel_down "$tunnel_reason"
        # Nobody knows these ports yet.
        if [[ $tunnel_result == port && ! -s ports && $((tries++)) -lt 5 ]]; then gwms_bosco_tunnel_ports_choose; fi
        tunnel_logins=("${tunnel_logins[@]:1}" "$host")
        [[ $tunnel_result != refused || $((++tunnel_refusals)) -lt $GWMS_BOSCO_TUNNEL_REFUSED_MAX ]] || return 1
    done
    return 1
}

# After too many refused logins: 1 when this start fails. Others who wait fail with it, by the file. A tunnel that was up
# tries again, rarely: an account may be away for a while, and payloads are running.
gwms_bosco_tunnel_refused() {
    [[ $tunnel_refusals -ge $GWMS_BOSCO_TUNNEL_REFUSED_MAX ]] || return 0
    tunnel_failure="login refused $tunnel_refusals times: $tunnel_reason"
    gwms_bosco_tunnel_place_write refused "$tunnel_failure"
    [[ -n $tunnel_answered ]] || return 1
    gwms_bosco_tunnel_pause "$((GWMS_BOSCO_TUNNEL_REFUSED_S * 1000))"
    return 0
}

# Until ssh ends or is wanted no more.
gwms_bosco_tunnel_keep() {
    local since=$SECONDS probe=$((SECONDS + GWMS_BOSCO_TUNNEL_PROBE_S)) up=yes
    while gwms_bosco_tunnel_wanted; do
        gwms_bosco_limit_pause 0.3
        gwms_bosco_tunnel_ssh_lives || break
        [[ $SECONDS -ge $probe ]] || continue
        probe=$((SECONDS + GWMS_BOSCO_TUNNEL_PROBE_S))
        # ssh stays: what goes through it may still live, and another login node would have the same egress proxy.
        if gwms_bosco_tunnel_probe; then
            # Also where the disk was full when it came up.
            if [[ -z $up ]] || ! gwms_bosco_tunnel_said UP; then gwms_bosco_tunnel_up 'the egress proxy answers again'; fi
            up=yes
        else
            [[ -z $up ]] || gwms_bosco_tunnel_down "the egress proxy $tunnel_egress_host:$tunnel_egress_port does not answer"
            up=''
        fi
    done
    [[ $((SECONDS - since)) -lt $GWMS_BOSCO_TUNNEL_GOOD_S ]] || tunnel_backoff=1
    [[ -z $tunnel_stop ]] || return 0
    gwms_bosco_tunnel_ssh_why "${tunnel_logins[0]}"
    gwms_bosco_tunnel_ssh_end
    gwms_bosco_tunnel_down "$tunnel_reason"
}

# gwms_bosco_tunnel_up TEXT: from here on pilots know the ports.
gwms_bosco_tunnel_up() {
    local now
    printf -v now '%(%s)T' -1
    tunnel_refusals=0
    if [[ ! -s ports ]] && ! gwms_bosco_tunnel_ports_write; then
        gwms_bosco_tunnel_log "cannot write into $tunnel_folder: full disk or quota"
        return
    fi
    rm -f refused
    gwms_bosco_tunnel_place_write reason '' && gwms_bosco_tunnel_place_write state "UP $now"
    gwms_bosco_tunnel_log "UP $1"
    gwms_bosco_tunnel_answer "up $tunnel_folder"
}

gwms_bosco_tunnel_ports_write() {
    gwms_bosco_tunnel_place_write proxychains.conf "$(gwms_bosco_tunnel_proxychains "$tunnel_port")" &&
        gwms_bosco_tunnel_place_write ports "PROXY=$tunnel_port"$'\n'"WEB=$tunnel_web_port"
}

# gwms_bosco_tunnel_down REASON: since when stays as it is when it is down already.
gwms_bosco_tunnel_down() {
    local now
    printf -v now '%(%s)T' -1
    gwms_bosco_tunnel_place_write reason "$1"
    # On a full disk no state is better than UP.
    gwms_bosco_tunnel_said DOWN || gwms_bosco_tunnel_place_write state "DOWN $now" || rm -f state
    gwms_bosco_tunnel_log "DOWN $1"
}

# gwms_bosco_tunnel_said WORD: 0 when that is what pilots read.
gwms_bosco_tunnel_said() {
    local word=''
    { read -r word _ <state; } 2>/dev/null
    [[ $word == "$1" ]]
}

gwms_bosco_tunnel_log() {
    [[ $tunnel_log_count -ge 0 ]] || tunnel_log_count=$(wc -l <log) || tunnel_log_count=0
    printf '%(%Y-%m-%dT%H:%M:%S%z)T %s\n' -1 "$(gwms_bosco_report_safe "$1" 300)" >>log
    [[ $((++tunnel_log_count)) -ge $((2 * GWMS_BOSCO_TUNNEL_LOG_LINES)) ]] || return 0
    tail -n "$GWMS_BOSCO_TUNNEL_LOG_LINES" log >log.new && mv -f log.new log
    tunnel_log_count=$GWMS_BOSCO_TUNNEL_LOG_LINES
}

# gwms_bosco_tunnel_pause MILLISECONDS: shorter when not wanted any more.
gwms_bosco_tunnel_pause() {
    local left=$1 step seconds
    while [[ $left -gt 0 ]] && gwms_bosco_tunnel_wanted; do
        step=$((left < 500 ? left : 500))
        printf -v seconds '%d.%03d' 0 "$step"
        gwms_bosco_limit_pause "$seconds"
        left=$((left - step))
    done
}
