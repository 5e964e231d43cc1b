# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# tunnel_* are set in one library of the tunnel and used in another; a failure in a chain of && is a failure of all.
# shellcheck disable=SC2015,SC2034,SC2154
# egress.conf as the tunnel needs it, and what follows from it: the configuration of ssh and that of proxychains.
#
# Every value that reaches ssh has passed a pattern of its own, in lib/egress_conf.sh.

# Login nodes tried.
GWMS_BOSCO_TUNNEL_HOSTS_MAX=16
# Keep-alive: the connection counts as dead after ALIVE_S x ALIVE_COUNT seconds without an answer.
GWMS_BOSCO_TUNNEL_ALIVE_S=${GWMS_BOSCO_TUNNEL_ALIVE_S:-15}
GWMS_BOSCO_TUNNEL_ALIVE_COUNT=${GWMS_BOSCO_TUNNEL_ALIVE_COUNT:-3}
# Seconds for the TCP connection and sshd's first words.
GWMS_BOSCO_TUNNEL_CONNECT_S=${GWMS_BOSCO_TUNNEL_CONNECT_S:-10}

# gwms_bosco_tunnel_conf_load FILE: set tunnel_kind, tunnel_egress_host ..., one for each key, and tunnel_known_hosts. 1 with
# the cause in tunnel_reason.
gwms_bosco_tunnel_conf_load() {
    local values line key
    tunnel_reason=''
    values=$(gwms_bosco_egress_values "$1") || { tunnel_reason=${values##*$'\n'}; return 1; }
    for key in kind egress_host egress_port egress_user login_hosts login_port auth key forwards web_proxy dns localnets \
        connect_ms read_ms; do
        printf -v "tunnel_$key" %s ''
    done
    while IFS= read -r line; do
        key=${line%%=*}
        printf -v "tunnel_${key,,}" %s "${line#*=}"
    done <<<"$values"
    for key in egress_host egress_port login_hosts login_port auth; do
        line=tunnel_$key
        [[ -n ${!line} ]] || { tunnel_reason="egress.conf has no ${key^^}"; return 1; }
        [[ $key != *_port || ${!line} -le 65535 ]] || { tunnel_reason="egress.conf: ${key^^} is no port"; return 1; }
    done
    IFS=, read -r -a tunnel_logins <<<"$tunnel_login_hosts"
    tunnel_known_hosts=known_hosts
    [[ $1 != */* ]] || tunnel_known_hosts=${1%/*}/known_hosts
    tunnel_reason=$(gwms_bosco_tunnel_conf_wrong)
    [[ -z $tunnel_reason ]]
}

# What one value asks of another, and of the node.
gwms_bosco_tunnel_conf_wrong() {
    if [[ ! $tunnel_kind =~ ^(http-connect|socks5|ssh)$ ]]; then
        echo "egress.conf: there is no tunnel for KIND \"$tunnel_kind\""
    elif [[ ${#tunnel_logins[@]} -gt $GWMS_BOSCO_TUNNEL_HOSTS_MAX ]]; then
        echo "egress.conf names more than $GWMS_BOSCO_TUNNEL_HOSTS_MAX login nodes"
    elif [[ ! -r $tunnel_known_hosts ]]; then
        echo 'there is no known_hosts beside egress.conf'
    elif [[ $tunnel_kind == ssh && -z $tunnel_egress_user ]]; then
        echo 'egress.conf: EGRESS_USER is needed with KIND ssh'
    elif [[ $tunnel_auth != hostbased && -z $tunnel_key ]]; then
        echo "egress.conf: KEY is needed with AUTH $tunnel_auth"
    elif [[ -n $tunnel_key && ! ${HOME-} =~ ^/[^\"[:cntrl:]]*$ ]]; then
        echo 'HOME is not set, or has odd characters, and the key is below it'
    elif [[ -n $tunnel_key && ! -r $HOME/$tunnel_key ]]; then
        echo "the key $tunnel_key in HOME is not there or cannot be read"
    elif gwms_bosco_tunnel_web_port && [[ -z $(gwms_bosco_tunnel_forward "$tunnel_web_proxy") ]]; then
        echo "egress.conf: WEB_PROXY $tunnel_web_proxy is no forward"
    fi
}

# gwms_bosco_tunnel_forward NAME: its HOST:PORT.
gwms_bosco_tunnel_forward() {
    local -a forwards
    local forward
    IFS=, read -r -a forwards <<<"$tunnel_forwards"
    for forward in "${forwards[@]}"; do
        [[ ${forward%%=*} == "$1" ]] && { printf '%s' "${forward#*=}"; return 0; }
    done
    return 1
}

# gwms_bosco_tunnel_web_port: 0 when the web proxy has a port of its own at this end.
gwms_bosco_tunnel_web_port() {
    [[ $tunnel_kind == ssh && -n $tunnel_web_proxy ]]
}

# gwms_bosco_tunnel_ssh_config LOGIN_HOST PROXY_PORT WEB_PORT: the whole configuration, as ssh reads no other file. Paths are
# relative to the node folder: it may have blanks in its name.
gwms_bosco_tunnel_ssh_config() {
    local target="$tunnel_egress_host:$tunnel_egress_port" identity=${HOME-}/$tunnel_key ciphers
    ciphers=$(gwms_bosco_tunnel_ciphers)
    printf 'Host gwms-tunnel\n'
    # Runs when ssh has logged in and listens; its stdout is what the supervisor reads.
    printf '    %s\n' 'PermitLocalCommand yes' 'LocalCommand echo up'
    if [[ $tunnel_kind == ssh ]]; then
        printf '    %s\n' "HostName $tunnel_egress_host" "Port $tunnel_egress_port" "User $tunnel_egress_user" \
            "ProxyCommand ${tunnel_dies[*]}${tunnel_dies:+ }ssh -F ssh_config -W [%h]:%p gwms-login" "DynamicForward 127.0.0.1:$2"
        ! gwms_bosco_tunnel_web_port ||
            printf '    LocalForward 127.0.0.1:%s %s\n' "$3" "$(gwms_bosco_tunnel_forward "$tunnel_web_proxy")"
        # The egress proxy knows keys, not the site's hosts.
        [[ -z $tunnel_key ]] || gwms_bosco_tunnel_ssh_key "$identity"
    else
        printf '    %s\n' "HostName $1" "Port $tunnel_login_port" "LocalForward 127.0.0.1:$2 $target"
    fi
    printf '%s\n' 'Host gwms-login' "    HostName $1" "    Port $tunnel_login_port" 'Host *'
    if [[ $tunnel_auth == hostbased ]]; then
        # ssh-keysign reads EnableSSHKeysign from the node's own file only.
        printf '    %s\n' 'PreferredAuthentications hostbased' 'HostbasedAuthentication yes' 'EnableSSHKeysign yes' \
            'PubkeyAuthentication no'
    else
        gwms_bosco_tunnel_ssh_key "$identity"
    fi
    printf '    %s\n' 'BatchMode yes' 'StrictHostKeyChecking yes' 'UserKnownHostsFile known_hosts' \
        'GlobalKnownHostsFile /dev/null' 'UpdateHostKeys no' 'CheckHostIP no' 'IdentityAgent none' 'IdentitiesOnly yes' \
        'ForwardAgent no' 'ForwardX11 no' 'GatewayPorts no' 'ControlMaster no' 'ControlPath none' 'AddressFamily inet' \
        'ExitOnForwardFailure yes' "ServerAliveInterval $GWMS_BOSCO_TUNNEL_ALIVE_S" \
        "ServerAliveCountMax $GWMS_BOSCO_TUNNEL_ALIVE_COUNT" "ConnectTimeout $GWMS_BOSCO_TUNNEL_CONNECT_S" \
        'ConnectionAttempts 1' 'LogLevel INFO'
    [[ -z $ciphers ]] || printf '    Ciphers %s\n' "$ciphers"
}

# gwms_bosco_tunnel_ciphers: those that processors compute by themselves come first. ssh's own first choice takes twice the time
# of a bulk transfer, and with KIND ssh all is encrypted twice. Only names that this ssh knows, as another is an error; and
# not by ^ or -, which versions before 8.1 and 7.5 do not know.
gwms_bosco_tunnel_ciphers() {
    local known name list=''
    known=$(ssh -Q cipher 2>/dev/null)
    for name in aes128-gcm@openssh.com aes256-gcm@openssh.com chacha20-poly1305@openssh.com aes128-ctr aes192-ctr aes256-ctr; do
        [[ $'\n'$known$'\n' != *$'\n'$name$'\n'* ]] || list+=,$name
    done
    printf '%s' "${list#,}"
}

gwms_bosco_tunnel_ssh_key() {
    printf '    %s\n' "IdentityFile \"${1//'%'/%%}\"" 'PreferredAuthentications publickey' 'PubkeyAuthentication yes' \
        'HostbasedAuthentication no'
}

# gwms_bosco_tunnel_proxychains PROXY_PORT: its configuration. Loopback is never chained.
gwms_bosco_tunnel_proxychains() {
    local -a nets
    local net type=socks5
    [[ $tunnel_kind != http-connect ]] || type=http
    printf '%s\n' strict_chain quiet_mode
    # What stands for a name. Not 224, its own choice: that can be bound to, by which HTCondor tells daemons of its own node,
    # and the pool refuses their session (seen with 23.9). Source: HTCondor condor_io/sock.cpp peer_is_local, condor_secman.cpp.
    [[ $tunnel_dns != True ]] || printf '%s\n' proxy_dns 'remote_dns_subnet 240'
    printf '%s\n' "tcp_connect_time_out ${tunnel_connect_ms:-8000}" "tcp_read_time_out ${tunnel_read_ms:-15000}" \
        'localnet 127.0.0.0/255.0.0.0'
    IFS=, read -r -a nets <<<"$tunnel_localnets"
    for net in "${nets[@]}"; do
        printf 'localnet %s\n' "$(gwms_bosco_tunnel_net "$net")"
    done
    printf '%s\n' '[ProxyList]' "$type 127.0.0.1 $1"
}

# gwms_bosco_tunnel_net ADDRESS/BITS: with a mask, as older versions of proxychains know no prefix length.
gwms_bosco_tunnel_net() {
    local bits=32 mask
    [[ $1 != */* ]] || bits=${1##*/}
    [[ $bits =~ ^[0-9]{1,2}$ && $((10#$bits)) -le 32 ]] || { printf '%s' "$1"; return; }
    mask=$(((0xffffffff << (32 - 10#$bits)) & 0xffffffff))
    printf '%s/%d.%d.%d.%d' "${1%%/*}" $((mask >> 24)) $((mask >> 16 & 255)) $((mask >> 8 & 255)) $((mask & 255))
}
