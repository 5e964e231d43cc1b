#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# shellcheck disable=SC2154 # tunnel_*: results of the libraries
# The libraries of the tunnel, function by function, and starts with an ssh that answers as it is told.

load node
bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_TMPDIR"
    load_libraries report limit cvmfs_conf egress_conf tunnel_conf tunnel_place tunnel_ssh tunnel tunnel_again
    mkdir egress home bin place
    chmod 1777 place
    touch home/key egress/known_hosts
    export HOME=$PWD/home TMPDIR='' PATH=$PWD/bin:$PATH GWMS_BOSCO_TUNNEL_TMP=$PWD/place
    GWMS_BOSCO_TUNNEL_START_S=5 GWMS_BOSCO_TUNNEL_SPREAD_MS=0
    tunnel_dies=()
    conf
}

# conf [LINE]...: egress.conf, in which LINEs replace those of the same key.
conf() {
    local line
    printf '%s\n' KIND=http-connect EGRESS_HOST=10.0.0.9 EGRESS_PORT=80 EGRESS_USER= LOGIN_HOSTS=10.77.1.1,10.77.1.2 \
        LOGIN_PORT=22 AUTH=site-key KEY=key FORWARDS=pool=10.0.0.8:9618,squid=10.0.0.7:3128 WEB_PROXY=egress DNS=False \
        LOCALNETS=10.77.1.0/24 CONNECT_MS=8000 READ_MS=15000 >egress/egress.conf
    for line; do
        sed -i "s|^${line%%=*}=.*|$line|" egress/egress.conf
    done
}

# fake_ssh: an ssh that is the program on stdin.
fake_ssh() {
    { printf '#!/bin/bash\n[[ $1 != -Q ]] || exit 1\n' && cat; } >bin/ssh
    chmod 0755 bin/ssh
}

# listen PROGRAM...: a server started by that program, on a free port, whose number goes to the file `port`; its process
# is `server`. The system's Python, which other accounts may run too.
listen() {
    "$@" /usr/bin/python3 -c 'import socket
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
input()' >port < <(sleep 30) &
    server=$!
    for _ in {1..200}; do
        [ -s port ] || gwms_bosco_limit_pause 0.05 || true
    done
    [ -s port ]
}

# in_script COMMAND...: start as a script of its own, which is the tunnel's user.
in_script() {
    local name text=
    for name in report limit cvmfs_conf egress_conf tunnel_conf tunnel_place tunnel_ssh tunnel tunnel_again; do
        text+=". '$LIB/$name.sh'"$'\n'
    done
    export GWMS_BOSCO_TUNNEL_START_S GWMS_BOSCO_TUNNEL_SPREAD_MS
    LIBRARIES=$text bash -c "$text$1" script
}

folder() {
    echo "place/gwms-bosco-egress-$EUID-$(sha256sum <egress/egress.conf | cut -c -12)"
}

@test "conf: says what is missing, wrong, or does not fit" {
    gwms_bosco_tunnel_conf_load egress/egress.conf
    while IFS='|' read -r line reason; do
        conf "$line"
        run -1 gwms_bosco_tunnel_conf_load egress/egress.conf
        gwms_bosco_tunnel_conf_load egress/egress.conf || [[ $tunnel_reason == *"$reason"* ]]
    done <<'TABLE'
KIND=none|no tunnel for KIND
KIND=|no tunnel for KIND
EGRESS_HOST=|has no EGRESS_HOST
EGRESS_HOST=-oProxyCommand=x|not allowed
LOGIN_HOSTS=a,-b|not allowed
LOGIN_HOSTS=|has no LOGIN_HOSTS
LOGIN_HOSTS=a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a|more than 16
LOGIN_PORT=65536|is no port
EGRESS_PORT=0|not allowed
AUTH=password|not allowed
KEY=|KEY is needed
KEY=../key|not allowed
KEY=/etc/key|not allowed
KEY=other|cannot be read
KIND=ssh|EGRESS_USER is needed
TABLE
    conf KIND=ssh EGRESS_USER=u WEB_PROXY=other
    run -1 gwms_bosco_tunnel_conf_load egress/egress.conf
    rm egress/known_hosts
    conf
    run -1 gwms_bosco_tunnel_conf_load egress/egress.conf
    run -1 gwms_bosco_tunnel_conf_load nowhere/egress.conf
}

@test "ssh_config: ssh reads it, and it gives what is asked and no default key" {
    conf KIND=ssh EGRESS_USER=tunnel EGRESS_PORT=443 WEB_PROXY=squid
    HOME="$PWD/a %h b" && mkdir "$HOME" && touch "$HOME/key"
    gwms_bosco_tunnel_conf_load egress/egress.conf
    gwms_bosco_tunnel_ssh_config 10.77.1.2 20001 20002 >ssh_config
    ssh -G -F ssh_config gwms-tunnel >tunnel
    for line in 'hostname 10.0.0.9' 'port 443' 'user tunnel' 'batchmode yes' 'stricthostkeychecking true' \
        'exitonforwardfailure yes' 'dynamicforward [127.0.0.1]:20001' 'localforward [127.0.0.1]:20002 [10.0.0.7]:3128' \
        'serveraliveinterval 15' 'serveralivecountmax 3' 'identitiesonly yes' 'identityagent none' 'permitlocalcommand yes'; do
        grep -qxF "$line" tunnel
    done
    [ "$(grep -c '^identityfile' tunnel)" = 1 ]
    grep -qF "a %%h b/key" tunnel || grep -qF 'a %h b/key' tunnel
    ssh -G -F ssh_config gwms-login >login
    grep -qxF 'hostname 10.77.1.2' login
    run ! grep -E '^(dynamic|local)forward' login
    grep -qxF 'permitlocalcommand no' login
}

@test "ssh_config: hosts log in by their keys, and by no other" {
    conf AUTH=hostbased KEY=
    gwms_bosco_tunnel_conf_load egress/egress.conf
    gwms_bosco_tunnel_ssh_config 10.77.1.2 20001 20002 >ssh_config
    ssh -G -F ssh_config gwms-tunnel >tunnel
    grep -qxF 'hostbasedauthentication yes' tunnel
    grep -qxF 'pubkeyauthentication false' tunnel
    grep -qxF 'localforward [127.0.0.1]:20001 [10.0.0.9]:80' tunnel
}

@test "proxychains: masks, time limits, and names only when asked" {
    gwms_bosco_tunnel_conf_load egress/egress.conf
    gwms_bosco_tunnel_proxychains 20001 >chain
    grep -qx 'localnet 10.77.1.0/255.255.255.0' chain
    grep -qx 'tcp_connect_time_out 8000' chain
    run ! grep proxy_dns chain
    [ "$(tail -n 1 chain)" = 'http 127.0.0.1 20001' ]
    conf KIND=socks5 DNS=True LOCALNETS=10.0.0.0/8,172.16.5.4
    gwms_bosco_tunnel_conf_load egress/egress.conf
    gwms_bosco_tunnel_proxychains 20001 >chain
    grep -qx proxy_dns chain
    # HTCondor takes addresses that can be bound to for its own node's, and multicast can.
    grep -qx 'remote_dns_subnet 240' chain
    grep -qx 'localnet 10.0.0.0/255.0.0.0' chain
    grep -qx 'localnet 172.16.5.4/255.255.255.255' chain
    [ "$(tail -n 1 chain)" = 'socks5 127.0.0.1 20001' ]
    [ "$(gwms_bosco_tunnel_net 10.1.2.0/20)" = 10.1.2.0/255.255.240.0 ]
    [ "$(gwms_bosco_tunnel_net 0.0.0.0/0)" = 0.0.0.0/0.0.0.0 ]
}

@test "place: a link, a file, a foreign folder and wrong modes are refused, and nothing is put there" {
    mkdir elsewhere
    ln -s "$PWD/elsewhere" "$(folder)"
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *"is not a folder of our own"* ]]
    [ -z "$(ls elsewhere)" ]
    rm "$(folder)"
    touch "$(folder)"
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *"is not a folder of our own"* ]]
    rm "$(folder)"
    mkdir -m 0750 "$(folder)"
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *"has not mode 0700"* ]]
    [ -z "$(ls "$(folder)")" ]
    [ "$EUID" = 0 ] || skip "only root can make a foreign folder"
    chmod 0700 "$(folder)"
    chown 2001 "$(folder)"
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *"is not a folder of our own"* ]]
}

@test "ciphers: those of the processor first, and none that ssh does not know" {
    [[ $(gwms_bosco_tunnel_ciphers) == aes128-gcm@openssh.com,* ]]
    printf '#!/bin/sh\nprintf "%%s\\n" aes256-ctr 3des-cbc aes256-gcm@openssh.com\n' >bin/ssh
    chmod 0755 bin/ssh
    [ "$(gwms_bosco_tunnel_ciphers)" = aes256-gcm@openssh.com,aes256-ctr ]
    fake_ssh <<<'exit 1'
    [ -z "$(gwms_bosco_tunnel_ciphers)" ]
}

@test "place: where others may rename our folder it is not made; TMPDIR is next" {
    chmod 0777 place
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *"others may rename files in"* ]]
    mkdir 'a b'
    export TMPDIR="$PWD/a b"
    gwms_bosco_tunnel_conf_load egress/egress.conf
    (gwms_bosco_tunnel_place_enter egress/egress.conf && [ "$PWD" = "$TMPDIR/${tunnel_folder##*/}" ])
    [ -z "$(ls place)" ]
}

@test "start: fails when a program is missing, or the file is, and leaves nothing" {
    run -1 in_script 'gwms_bosco_tunnel_needs() { tunnel_reason="this node has no flock"; return 1; }
        gwms_bosco_tunnel_start egress/egress.conf'
    [ "$output" = 'this node has no flock' ]
    run -1 in_script 'gwms_bosco_tunnel_start nowhere/egress.conf'
    [ -n "$output" ]
    [ -z "$(ls place)" ]
}

@test "start: another login node is tried at once; the reason is the last" {
    fake_ssh <<'FAKE'
grep -m 1 'HostName' ssh_config >>../../tried
echo "ssh: connect to host x port 22: No route to host" >&2
exit 255
FAKE
    GWMS_BOSCO_TUNNEL_START_S=2
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *'no tunnel within 2 s'*'No route to host'* ]]
    [ "$(head -n 2 tried | sort | tr -d '\n ')" = HostName10.77.1.1HostName10.77.1.2 ]
    [ -z "$(ls place)" ]
}

@test "start: an ssh that hangs is ended" {
    fake_ssh <<<'exec sleep 600'
    GWMS_BOSCO_TUNNEL_START_S=5
    run -1 in_script 'GWMS_BOSCO_TUNNEL_LOGIN_S=1; gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *'no login within 1 s'* ]]
    [ -z "$(ls place)" ]
}

@test "start: three refusals are the end, over all login nodes" {
    fake_ssh <<'FAKE'
echo x >>../../tried
echo "u@x: Permission denied (publickey)." >&2
exit 255
FAKE
    GWMS_BOSCO_TUNNEL_START_S=60
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *'login refused 3 times'*'Permission denied'* ]]
    [ "$(wc -l <tried)" = 3 ]
}

@test "what ssh says is told apart" {
    while IFS='|' read -r result words; do
        printf 'a banner\n%s\n' "$words" >ssh.err
        gwms_bosco_tunnel_ssh_why h
        [ "$tunnel_result" = "$result" ]
        [[ $tunnel_reason == "h: "* ]]
    done <<'TABLE'
refused|u@h: Permission denied (publickey,hostbased).
refused|Host key verification failed.
refused|No ED25519 host key is known for h and you have requested strict checking.
refused|No user exists for uid 4711
busy|kex_exchange_identification: Connection closed by remote host
busy|Connection reset by 10.77.1.1 port 22
busy|Not allowed at this time
port|bind [127.0.0.1]:20001: Address already in use
network|ssh: connect to host h port 22: Connection timed out
network|Timeout, server h not responding.
TABLE
    rm ssh.err
    gwms_bosco_tunnel_ssh_why h || true
    [ "$tunnel_reason" = 'h: ssh ended without a word' ]
}

@test "ports: who listens is named; those chosen are free and not the kernel's own" {
    listen env
    [ "$(gwms_bosco_tunnel_port_owner "$(cat port)")" = "$EUID" ]
    kill "$server"
    wait "$server" || true
    run ! gwms_bosco_tunnel_port_owner "$(cat port)"
    gwms_bosco_tunnel_ports_choose
    [ "$tunnel_port" -ge 20000 ]
    [ "$tunnel_port" -lt 30000 ]
    [ "$tunnel_web_port" != "$tunnel_port" ]
}

@test "log: bounded, whatever comes" {
    tunnel_log_count=-1 GWMS_BOSCO_TUNNEL_LOG_LINES=10
    for number in {1..105}; do
        gwms_bosco_tunnel_log "$number $(printf 'x%.0s' {1..400})"
    done
    [ "$(wc -l <log)" -lt 20 ]
    [ "$(wc -c <log)" -lt 7000 ]
    [[ $(tail -n 1 log) == *' 105 x'* ]]
}

@test "state: since when it is down stays; an UP of nobody is not believed" {
    tunnel_log_count=-1
    echo 'DOWN 1000' >state
    gwms_bosco_tunnel_down 'again'
    [ "$(cat state)" = 'DOWN 1000' ]
    [ "$(gwms_bosco_tunnel_state .)" = 'DOWN 1000 again' ]
    echo 'UP 1000' >state
    : >lock
    exec {held}<lock
    flock "$held"
    [ "$(gwms_bosco_tunnel_state .)" = 'UP 1000' ]
    exec {held}<&-
    [[ $(gwms_bosco_tunnel_state .) == DOWN\ *' nobody looks after the tunnel' ]]
    [[ $(cat state) == 'DOWN '* ]]
    [[ $(gwms_bosco_tunnel_state nowhere) == DOWN\ *' there is no tunnel' ]]
}

@test "state: another user on the port is named, and counts as down" {
    [ "$EUID" = 0 ] || skip 'only root can be another user'
    echo 'UP 1000' >state
    : >lock
    exec {held}<lock
    flock "$held"
    listen setpriv --reuid=2001 --regid=2001 --clear-groups
    echo "PROXY=$(cat port)" >ports
    [[ $(gwms_bosco_tunnel_state .) == "DOWN "*" port $(cat port) on this node is in the hands of user id 2001" ]]
    kill "$server"
    wait "$server" || true
    [ "$(gwms_bosco_tunnel_state .)" = 'UP 1000' ]
}

@test "place: a folder whose owner is another user could be renamed by him" {
    [ "$EUID" = 0 ] || skip 'only root can make a foreign folder'
    chown 2001 place
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *"others may rename files in"* ]]
}

@test "sweep: a folder of another egress.conf goes when all its users are dead, and stays while one lives" {
    mkdir -m 0700 "place/gwms-bosco-egress-$EUID-aaaaaaaaaaaa" "place/gwms-bosco-egress-$EUID-bbbbbbbbbbbb"
    mkdir place/gwms-bosco-egress-"$EUID"-{aaaaaaaaaaaa,bbbbbbbbbbbb}/users
    touch place/gwms-bosco-egress-"$EUID"-{aaaaaaaaaaaa,bbbbbbbbbbbb}/users/4194305.1
    exec {alive}<"place/gwms-bosco-egress-$EUID-bbbbbbbbbbbb/users/4194305.1"
    flock "$alive"
    GWMS_BOSCO_TUNNEL_START_S=1
    fake_ssh <<<'exit 255'
    run -1 in_script 'gwms_bosco_tunnel_start egress/egress.conf'
    [ "$(ls place)" = "gwms-bosco-egress-$EUID-bbbbbbbbbbbb" ]
}

# up_ssh: an ssh that is up at once and leaves its number in `sshs`; while there is a file `shut` it is refused.
up_ssh() {
    conf KIND=ssh EGRESS_USER=u WEB_PROXY=
    fake_ssh <<'FAKE'
if [[ -e ../../shut ]]; then
    echo x >>../../tried
    echo "u@x: Permission denied (publickey)." >&2
    exit 255
fi
echo "$$" >>../../sshs
echo up
exec sleep 600
FAKE
}

# In a script: start. What replaces a supervisor ignores what a guard ignores.
HELPERS='
gwms_bosco_tunnel_start egress/egress.conf >folder || exit 1
folder=$(cat folder)
trap "" USR1 USR2 HUP INT QUIT TERM
again() { gwms_bosco_tunnel_again egress/egress.conf "$folder"; }
living() { local pid; for pid in $(cat sshs); do ! gwms_bosco_limit_start "$pid" >start || echo "$pid"; done; }
nobody() { [[ -z $(living) ]]; }
state() { gwms_bosco_tunnel_state "$folder"; }
until_true() { local i; for i in {1..200}; do ! "$@" || return 0; gwms_bosco_limit_pause 0.05; done; echo "not: $*"; exit 1; }
supervisor() { read -r pid start <"$folder/users/$$."*; }
gone() { ! gwms_bosco_limit_alive "$pid" "$start"; }
'
# And kill the supervisor alone.
KILLED=$HELPERS'
supervisor
kill -9 "$pid"
until_true gone
'

@test "again: a supervisor that was killed alone is replaced once, on its ports, and goes with the script" {
    up_ssh
    run -0 in_script "$KILLED"'
        [[ $(state) == DOWN\ * ]] || echo "still up"
        ports=$(cat "$folder/ports")
        again || echo "none begins"
        ! again || echo "another one begins"
        is_up() { [[ $(state) == UP\ * ]]; }
        until_true is_up
        [[ $(cat "$folder/ports") == "$ports" ]] || echo "other ports"
        [[ $(living | wc -l) == 1 ]] || echo "ssh: $(living)"
        supervisor
        ! gone || echo "no supervisor"
        ! again || echo "another one begins"
        trap - USR1
        gwms_bosco_tunnel_stop "$folder"
        gone || echo "it stays"
        [[ -z $(living) ]] || echo "ssh stays"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "again: one that is killed again and again is replaced more and more rarely" {
    up_ssh
    run -0 in_script "$KILLED"'
        # The shell says who was killed.
        exec 2>/dev/null
        GWMS_BOSCO_TUNNEL_AGAIN_S=600 GWMS_BOSCO_TUNNEL_REFUSED_S=1000
        again || echo "none begins"
        kill -9 "$tunnel_again_pid"
        wait "$tunnel_again_pid"
        ! again || echo "too soon"
        [[ $tunnel_again_pause == 1000 ]] || echo "$tunnel_again_pause"
        tunnel_again_next=0
        again || echo "never again"
        tunnel_again_next=0
        ! again || echo "two"
        [[ $tunnel_again_pause == 600 ]] || echo "$tunnel_again_pause"
        begun() { supervisor; [[ $pid == "$tunnel_again_pid" ]]; }
        until_true begun
        gwms_bosco_tunnel_stop "$folder"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "again: refused logins end nothing, and are repeated rarely" {
    up_ssh
    export GWMS_BOSCO_TUNNEL_REFUSED_S=2
    run -0 in_script "$KILLED"'
        touch shut
        again || echo "none begins"
        tried() { [[ -s tried && $(wc -l <tried) -ge 4 ]]; }
        until_true tried
        [[ $(cat "$folder/refused") == "login refused "*"Permission denied"* ]] || echo "not said"
        supervisor
        ! gone || echo "it has given up"
        gwms_bosco_tunnel_stop "$folder"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "stop: what a supervisor that was killed has left goes" {
    up_ssh
    run -0 in_script "$KILLED"'gwms_bosco_tunnel_stop "$folder"; until_true nobody'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "place: who comes while a wrapper waits for its next supervisor keeps the ports" {
    up_ssh
    run -0 in_script "$KILLED"'
        export folder
        before=$(cat "$folder/ports")
        bash -c "$LIBRARIES
            gwms_bosco_tunnel_start egress/egress.conf && gwms_bosco_tunnel_stop \"\$folder\"" script >other || echo "no start"
        [[ $(cat other) == "$folder" ]] || echo "another folder"
        [[ $(cat "$folder/ports") == "$before" ]] || echo "other ports"
        gwms_bosco_tunnel_stop "$folder"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "supervise: no signal that a batch system sends to all of a job ends it; what its script says does" {
    up_ssh
    run -0 in_script "$HELPERS"'
        supervisor
        ports=$(cat "$folder/ports")
        for signal in USR1 USR2 XCPU ALRM TERM HUP; do
            # Its ssh, and what waits to end that, too.
            kill -s "$signal" "$pid" $(cat "/proc/$pid/task/$pid/children")
        done
        looked=$((SECONDS + 2))
        while ! gone && [[ $SECONDS -lt $looked ]]; do gwms_bosco_limit_pause 0.1; done
        ! gone || echo "it has gone"
        [[ $(cat sshs) == "$(living)" ]] || echo "ssh: $(living)"
        [[ $(cat "$folder/ports") == "$ports" ]] || echo "other ports"
        gwms_bosco_tunnel_stop "$folder"
        gone || echo "it stays"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "place: who has the same number in another PID name space is somebody else" {
    up_ssh
    run -0 in_script "$HELPERS"'
        supervisor
        other=$folder/users/$$.99999999999
        echo "4194305 1" >"$other"
        exec {held}<"$other"
        flock "$held"
        ! again || echo "another one begins"
        gwms_bosco_tunnel_supervise egress/egress.conf "$$" "$(gwms_bosco_limit_start "$$")" again >/dev/null
        [[ $(cat "$folder/$(gwms_bosco_tunnel_place_file)") == "$pid $start" ]] || echo "its file is another"
        gwms_bosco_tunnel_stop "$folder"
        gone || echo "it stays"
        [[ -s $other && -s $folder/ports ]] || echo "removed what the other needs"'
    [ -z "$output" ]
}

@test "forget: leaves a supervisor alone that has begun meanwhile" {
    up_ssh
    run -0 in_script "$KILLED"'
        again || echo "none begins"
        begun() { supervisor; [[ $pid == "$tunnel_again_pid" ]]; }
        until_true begun
        gwms_bosco_tunnel_place_forget "$folder" "$(cd "$folder" && echo users/$$.*)"
        [[ -s $folder/ports ]] && begun || echo "it has nothing left"
        gwms_bosco_tunnel_stop "$folder"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "again: a folder that somebody has removed gets the ports that the pilot knows" {
    up_ssh
    run -0 in_script "$HELPERS"'
        supervisor
        ports=$(cat "$folder/ports") chain=$(cat "$folder/proxychains.conf")
        ! again || echo "another one begins"
        kill -9 "$pid"
        until_true gone
        rm -rf "$folder"
        again || echo "none begins"
        is_up() { [[ $(state) == UP\ * ]]; }
        until_true is_up
        [[ $(cat "$folder/ports") == "$ports" ]] || echo "other ports"
        [[ $(cat "$folder/proxychains.conf") == "$chain" ]] || echo "another chain"
        gwms_bosco_tunnel_stop "$folder"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "start: a full disk is named, and nothing is left" {
    run -1 in_script 'ulimit -f 0; gwms_bosco_tunnel_start egress/egress.conf'
    [[ $output == *'full disk or quota'* ]]
    [ -z "$(ls place)" ]
}

@test "stop: a supervisor that could not write who it is leaves nothing" {
    up_ssh
    run -0 in_script "$KILLED"'
        (ulimit -f 0; trap "" XFSZ
            gwms_bosco_tunnel_supervise egress/egress.conf "$$" "$(gwms_bosco_limit_start "$$")" again >/dev/null)
        [[ -e $folder/ports ]] || echo "it has taken the ports with it"
        gwms_bosco_tunnel_stop "$folder"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "start: one that comes while the last user removes the folder makes it again" {
    up_ssh
    run -0 in_script '
        eval "looked_$(declare -f gwms_bosco_tunnel_place_ours)"
        gwms_bosco_tunnel_place_ours() {
            looked_gwms_bosco_tunnel_place_ours "$1" || return
            [[ -z $entered ]] || return 0
            entered=yes
            rmdir "$tunnel_folder"
        }
        gwms_bosco_tunnel_start egress/egress.conf >folder && gwms_bosco_tunnel_stop "$(cat folder)"'
    [ -z "$output" ]
    [ -z "$(ls place)" ]
}

@test "state: on a full disk UP does not stay; what was written in error is written again" {
    tunnel_log_count=-1
    echo 'UP 1000' >state
    : >lock
    exec {held}<lock
    flock "$held"
    (ulimit -f 0; trap '' XFSZ; gwms_bosco_tunnel_down 'gone') 2>/dev/null || true
    [[ $(gwms_bosco_tunnel_state .) == DOWN\ * ]]
    up_ssh
    export GWMS_BOSCO_TUNNEL_PROBE_S=1
    run -0 in_script "$HELPERS"'
        echo "DOWN 1000" >"$folder/state"
        is_up() { [[ $(state) == UP\ * ]]; }
        until_true is_up
        gwms_bosco_tunnel_stop "$folder"'
    [ -z "$output" ]
}

@test "state, stop: a folder that another user has made in the place of ours is not looked into" {
    [ "$EUID" = 0 ] || skip 'only root can make a foreign folder'
    up_ssh
    run -0 in_script "$KILLED"'
        rm -rf "$folder"
        sleep 60 & victim=$!
        mkdir -p "$folder/users"
        echo "$victim $(gwms_bosco_limit_start "$victim")" >"$folder/users/$$.$(gwms_bosco_limit_start "$$")"
        echo "UP 1000" >"$folder/state"
        echo precious >precious
        : >"$folder/lock"
        ln -s "$PWD/precious" "$folder/state.new"
        chown -R 2001 "$folder"
        [[ $(state) == DOWN\ *" there is no tunnel" ]] || state
        [[ $(cat precious) == precious ]] || echo "wrote through a link"
        gwms_bosco_tunnel_stop "$folder"
        gwms_bosco_limit_start "$victim" >/dev/null || echo "killed another process"
        kill "$victim"'
    [ -z "$output" ]
}
