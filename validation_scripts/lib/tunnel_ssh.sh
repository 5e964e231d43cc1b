# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# tunnel_* are set in one library of the tunnel and used in another; a failure in a chain of && is a failure of all.
# shellcheck disable=SC2015,SC2034,SC2154
# One ssh connection of the tunnel: start it, know when it is up, tell why it is not, and have it die with its supervisor.
#
# It dies with its supervisor in three ways, since no shell has prctl(2): the kernel kills it where setpriv(1) can ask for
# that; a guard kills it, a process that only waits for the end of a pipe which the supervisor alone holds; and whoever takes
# over kills the ssh that is written in the folder. ssh itself cannot be made to: with -N it does not read its stdin, and
# a command at the other end is what a limited key forbids.

# Seconds from start to login.
GWMS_BOSCO_TUNNEL_LOGIN_S=${GWMS_BOSCO_TUNNEL_LOGIN_S:-30}
# Seconds for an answer of the egress proxy.
GWMS_BOSCO_TUNNEL_PROBE_WAIT_S=${GWMS_BOSCO_TUNNEL_PROBE_WAIT_S:-10}
# KiB of ssh's own words; what goes beyond is lost.
GWMS_BOSCO_TUNNEL_ERR_KIB=64
# Ports at this end are taken from here on, below those the kernel gives to outgoing connections by itself.
GWMS_BOSCO_TUNNEL_PORT_FIRST=20000
GWMS_BOSCO_TUNNEL_PORT_COUNT=10000

# gwms_bosco_tunnel_port_owner PORT: the user id of who listens there on this node; 1 when nobody does.
gwms_bosco_tunnel_port_owner() {
    local hex files=/proc/net/tcp
    printf -v hex %04X "$1"
    [[ ! -r /proc/net/tcp6 ]] || files+=' /proc/net/tcp6'
    # 0A: TCP_LISTEN. Source: Linux Documentation/networking/proc_net_tcp.rst.
    # shellcheck disable=SC2086 # two names
    awk -v port=":$hex" '$4 == "0A" && substr($2, length($2) - 4) == port { print $8; found = 1; exit } END { exit !found }' $files
}

# gwms_bosco_tunnel_ports_choose: set tunnel_port and tunnel_web_port to free ones.
gwms_bosco_tunnel_ports_choose() {
    local low=0 high=0 tries=0 port
    { read -r low high </proc/sys/net/ipv4/ip_local_port_range; } 2>/dev/null
    tunnel_port='' tunnel_web_port=''
    while [[ -z $tunnel_web_port && $((tries++)) -lt 200 ]]; do
        port=$((GWMS_BOSCO_TUNNEL_PORT_FIRST + RANDOM % GWMS_BOSCO_TUNNEL_PORT_COUNT))
        # On some nodes all ports are the kernel's.
        [[ $tries -gt 100 || $port -lt $low || $port -gt $high ]] || continue
        [[ $port != "$tunnel_port" ]] && ! gwms_bosco_tunnel_port_owner "$port" >/dev/null || continue
        if [[ -z $tunnel_port ]]; then tunnel_port=$port; else tunnel_web_port=$port; fi
    done
}

# gwms_bosco_tunnel_ssh_try HOST: 0 when ssh is up by this login node and the egress proxy answers. Else 1, ssh is gone, and
# tunnel_result is refused, busy (sshd turned us away before the login), port, network or stopped; the cause in tunnel_reason.
gwms_bosco_tunnel_ssh_try() {
    local until line='' part rc
    gwms_bosco_tunnel_ssh_free || return 1
    gwms_bosco_tunnel_ssh_start "$1" || return 1
    until=$((SECONDS + GWMS_BOSCO_TUNNEL_LOGIN_S))
    while :; do
        read -r -t 0.5 -u "$tunnel_feed" part
        rc=$?
        # The half second may end in the middle of the word.
        line+=$part
        if [[ $rc == 0 && $line == up ]]; then
            gwms_bosco_tunnel_probe && return 0
            tunnel_result=network tunnel_reason="$1: ssh is up, and the egress proxy $tunnel_egress_host:$tunnel_egress_port does not answer"
            [[ ! -s ssh.err ]] || tunnel_reason+=": $(gwms_bosco_report_safe "$(tail -n 1 ssh.err)" 160)"
            break
        elif [[ $rc != 0 && $rc -le 128 ]]; then
            gwms_bosco_tunnel_ssh_why "$1"
            break
        fi
        tunnel_result=stopped tunnel_reason=stopped
        gwms_bosco_tunnel_wanted || break
        tunnel_result=network tunnel_reason="$1: no login within $GWMS_BOSCO_TUNNEL_LOGIN_S s"
        [[ $SECONDS -lt $until ]] || break
    done
    gwms_bosco_tunnel_ssh_end
    return 1
}

# Nobody may listen on our ports; ssh would find out only after the login.
gwms_bosco_tunnel_ssh_free() {
    local port owner
    for port in "$tunnel_port" "$tunnel_web_port"; do
        owner=$(gwms_bosco_tunnel_port_owner "$port") || continue
        tunnel_result=port tunnel_reason="port $port on this node is in the hands of user id $owner"
        return 1
    done
}

gwms_bosco_tunnel_ssh_start() {
    local line=''
    gwms_bosco_tunnel_place_write ssh_config "$(gwms_bosco_tunnel_ssh_config "$1" "$tunnel_port" "$tunnel_web_port")" || {
        tunnel_result=network tunnel_reason="cannot write into $tunnel_folder: full disk or quota"
        return 1
    }
    rm -f ssh.err
    exec {tunnel_feed}< <(
        exec {tunnel_lock_fd}>&- {tunnel_user_fd}>&-
        trap '' USR1
        echo "pid $BASHPID"
        ulimit -f "$GWMS_BOSCO_TUNNEL_ERR_KIB"
        exec "${tunnel_dies[@]}" ssh -F ssh_config -N gwms-tunnel </dev/null 2>ssh.err
    )
    read -r -t "$GWMS_BOSCO_TUNNEL_LOGIN_S" -u "$tunnel_feed" line
    tunnel_ssh=${line#pid } tunnel_ssh_start=$(gwms_bosco_limit_start "${line#pid }")
    gwms_bosco_tunnel_place_write ssh "$tunnel_ssh $tunnel_ssh_start"
    exec {tunnel_life}> >(gwms_bosco_tunnel_guard)
}

# Waits for the end of the pipe that the supervisor holds, which no signal and no crash can keep from ending.
gwms_bosco_tunnel_guard() {
    local line
    trap '' USR1
    exec {tunnel_lock_fd}>&- {tunnel_user_fd}>&- {tunnel_feed}<&- >/dev/null
    while read -r line; do :; done
    if gwms_bosco_limit_alive "$tunnel_ssh" "$tunnel_ssh_start"; then kill -9 "$tunnel_ssh" 2>/dev/null; fi
}

# 0 while it runs. Its stdout does not tell: some versions give it up after the login.
gwms_bosco_tunnel_ssh_lives() {
    local stat=''
    { read -r stat <"/proc/$tunnel_ssh/stat"; } 2>/dev/null
    # State and parent, past the name: a child of ours, and no zombie.
    [[ ${stat##*) } == [!Z]" $tunnel_self "* ]]
}

# gwms_bosco_tunnel_ssh_end: end it, and wait until its ports are free.
gwms_bosco_tunnel_ssh_end() {
    [[ -n ${tunnel_ssh-} ]] || return 0
    gwms_bosco_tunnel_ssh_kill "$tunnel_ssh" "$tunnel_ssh_start"
    rm -f ssh
    exec {tunnel_feed}<&- {tunnel_life}>&-
    tunnel_ssh=''
}

# gwms_bosco_tunnel_ssh_stale: end the ssh that somebody who was killed left. The number alone may be another process by now.
gwms_bosco_tunnel_ssh_stale() {
    local process='' start=''
    [[ -s ssh ]] || return 0
    read -r process start <ssh
    gwms_bosco_tunnel_ssh_kill "$process" "$start"
    rm -f ssh
}

gwms_bosco_tunnel_ssh_kill() {
    local until=$((SECONDS + 5))
    while gwms_bosco_limit_alive "$1" "$2" && [[ $SECONDS -lt $until ]]; do
        kill -9 "$1" 2>/dev/null
        gwms_bosco_limit_pause 0.02
    done
}

# gwms_bosco_tunnel_ssh_why HOST: what ssh's words mean. First row that fits; its line is the reason.
# Source: OpenSSH 7.4 to 9.2 sshconnect.c, sshconnect2.c, ssh.c, kex.c (texts of fatal and error).
gwms_bosco_tunnel_ssh_why() {
    local row line
    for row in 'port Address already in use|cannot listen to port' \
        'refused Permission denied|Too many authentication failures|Host key verification failed|host key is known' \
        'refused Bad configuration|No user exists for uid|no such identity' \
        'busy kex_exchange_identification|ssh_exchange_identification|banner exchange|MaxStartups|Not allowed at this time' \
        'busy Connection (closed|reset) by '; do
        line=$(grep -aEm 1 -e "${row#* }" ssh.err 2>/dev/null) || continue
        tunnel_result=${row%% *} tunnel_reason="$1: $(gwms_bosco_report_safe "$line" 200)"
        return
    done
    line=$(tail -n 1 ssh.err 2>/dev/null)
    tunnel_result=network tunnel_reason="$1: $(gwms_bosco_report_safe "${line:-ssh ended without a word}" 200)"
}

# gwms_bosco_tunnel_probe: 0 when the egress proxy answers through the tunnel. Through its own ssh it has answered already.
gwms_bosco_tunnel_probe() {
    local LC_ALL=C probe answer='' wanted=HTTP/
    [[ $tunnel_kind != ssh ]] || return 0
    { exec {probe}<>"/dev/tcp/127.0.0.1/$tunnel_port"; } 2>/dev/null || return 1
    if [[ $tunnel_kind == http-connect ]]; then
        printf 'HEAD / HTTP/1.0\r\n\r\n' >&"$probe"
    else
        # Version 5, one method: none. Source: RFC 1928 section 3.
        wanted=$'\005'
        printf '\005\001\000' >&"$probe"
    fi 2>/dev/null
    read -r -t "$GWMS_BOSCO_TUNNEL_PROBE_WAIT_S" -N "${#wanted}" -u "$probe" answer
    exec {probe}>&-
    [[ $answer == "$wanted" ]]
}
