# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # egress_* are for whoever reads it
# egress.conf: what the site file says to a closed site's nodes. KEY=VALUE lines, read line by line and never sourced;
# every value is checked against the pattern of its key before anything uses it.

# Larger than any that the factory writes.
GWMS_BOSCO_EGRESS_CONF_BYTES=65536
GWMS_BOSCO_EGRESS_VALUE_BYTES=4096

# gwms_bosco_egress_pattern KEY: what may stand in its value besides nothing (extended regular expression); 1 for a key
# that this version does not read.
gwms_bosco_egress_pattern() {
    local host='[A-Za-z0-9][A-Za-z0-9.-]*' port='[1-9][0-9]{0,4}' path='/[A-Za-z0-9_./@=-]+' name='[A-Za-z0-9][A-Za-z0-9_.-]*'
    local octet='[0-9]{1,3}' number='[1-9][0-9]{0,6}' below='[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*'
    local rung='(native|userns|fusermount|mountrepo)' place='(node|cvmfs|shipped)'
    local network="$octet\\.$octet\\.$octet\\.$octet(/[0-9]{1,2})?"
    case $1 in
        KIND) echo 'none|http-connect|socks5|ssh' ;;
        EGRESS_HOST) echo "$host" ;;
        EGRESS_PORT | LOGIN_PORT) echo "$port" ;;
        EGRESS_USER) echo '[A-Za-z_][A-Za-z0-9_.-]*' ;;
        LOGIN_HOSTS) echo "$host(,$host)*" ;;
        AUTH) echo 'hostbased|existing|site-key' ;;
        KEY | BOSCO_DIR) echo "$below" ;;
        FORWARDS) echo "$name=$host:$port(,$name=$host:$port)*" ;;
        WEB_PROXY | SITE) echo "$name" ;;
        DNS | PAYLOADS | CVMFS_REQUIRED) echo 'True|False' ;;
        LOCALNETS) echo "$network(,$network)*" ;;
        CONNECT_MS | READ_MS | MAX_DOWN_S | CVMFS_QUOTA_MB) echo "$number" ;;
        PRELOAD) echo "$path(,$path)*" ;;
        CONTAINER) echo 'pilot|none' ;;
        IMAGE | CVMFSEXEC) echo "$path" ;;
        IMAGE_SHA256) echo '[0-9a-f]{64}' ;;
        CVMFS_REPOS) echo '[a-z0-9][a-z0-9.-]*(,[a-z0-9][a-z0-9.-]*)*' ;;
        CVMFS_RUNGS) echo "$rung(,$rung)*" ;;
        CVMFS_CACHE) echo "ram|(local|image):$path" ;;
        CA) echo "$place(,$place)*" ;;
        *) return 1 ;;
    esac
}

# gwms_bosco_egress_values FILE: its keys and values, checked, as KEY=VALUE lines; else 1 and what is wrong with it.
gwms_bosco_egress_values() {
    local LC_ALL=C line key pattern number=0 seen=' '
    if [[ ! -f $1 || ! -r $1 ]]; then
        echo "there is no egress.conf that can be read at $(gwms_bosco_report_safe "$1" 120)"
        return 1
    fi
    # Counted without reading more than that.
    if [[ $(head -c "$((GWMS_BOSCO_EGRESS_CONF_BYTES + 1))" <"$1" | wc -c) -gt $GWMS_BOSCO_EGRESS_CONF_BYTES ]]; then
        echo "egress.conf is larger than $GWMS_BOSCO_EGRESS_CONF_BYTES bytes"
        return 1
    fi
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        key=${line%%=*}
        if [[ ! $line =~ ^[A-Z][A-Z0-9_]*= ]]; then
            echo "line $number of egress.conf is not KEY=VALUE"
            return 1
        fi
        # A line of a younger factory's.
        pattern=$(gwms_bosco_egress_pattern "$key") || continue
        if [[ $seen == *" $key "* ]]; then
            echo "egress.conf says $key twice"
            return 1
        fi
        seen+="$key "
        line=${line#*=}
        if [[ ${#line} -gt $GWMS_BOSCO_EGRESS_VALUE_BYTES ]]; then
            echo "$key in egress.conf is longer than $GWMS_BOSCO_EGRESS_VALUE_BYTES bytes"
            return 1
        fi
        if [[ -n $line && (! $line =~ ^($pattern)$ || $line == *..*) ]]; then
            echo "$key in egress.conf has a value that is not allowed: $(gwms_bosco_report_safe "$line" 60)"
            return 1
        fi
        printf '%s=%s\n' "$key" "$line"
    # Bash leaves NUL bytes out, and two halves would become one value.
    done < <(tr '\000' '\001' <"$1")
}

# gwms_bosco_egress_read FILE: set egress_<key in small letters> for each key, empty for those that FILE has not; else 1
# and the reason on stderr.
gwms_bosco_egress_read() {
    local values line key
    values=$(gwms_bosco_egress_values "$1") || { printf '%s\n' "${values##*$'\n'}" >&2; return 1; }
    egress_kind='' egress_egress_host='' egress_egress_port='' egress_forwards='' egress_web_proxy='' egress_dns=''
    egress_localnets='' egress_connect_ms='' egress_read_ms='' egress_preload='' egress_payloads='' egress_max_down_s=''
    egress_container='' egress_image='' egress_image_sha256='' egress_cvmfsexec='' egress_cvmfs_repos=''
    egress_cvmfs_rungs='' egress_cvmfs_cache='' egress_cvmfs_quota_mb='' egress_cvmfs_required='' egress_bosco_dir=''
    egress_site='' egress_ca=''
    while IFS= read -r line; do
        key=${line%%=*}
        printf -v "egress_${key,,}" %s "${line#*=}"
    done <<<"$values"
    [[ $egress_container != pilot || -n $egress_image ]] || { echo 'egress.conf names no image' >&2; return 1; }
    [[ -n $egress_kind && $egress_kind != none ]] || { egress_kind=none; return 0; }
    [[ -n $egress_egress_host && -n $egress_egress_port ]] || { echo 'egress.conf names no egress proxy' >&2; return 1; }
}

# gwms_bosco_egress_port FOLDER NAME: PROXY or WEB, the port on this node's loopback that the tunnel has.
gwms_bosco_egress_port() {
    local LC_ALL=C port
    port=$(gwms_bosco_conf_read "$1/ports" "$2" 2>/dev/null)
    [[ $port =~ ^[1-9][0-9]{0,4}$ ]] && echo "$port"
}

# gwms_bosco_egress_web_proxy FOLDER: its URL, nothing where the site has none; 1 and why when it cannot be had.
gwms_bosco_egress_web_proxy() {
    local port forward
    [[ -n $egress_web_proxy ]] || return 0
    case $egress_kind:$egress_web_proxy in
        http-connect:egress) port=$(gwms_bosco_egress_port "$1" PROXY) ;;
        *:egress) echo "an egress proxy of kind $egress_kind is no web proxy"; return 1 ;;
        # Not through the chain: the tunnel has a port for it.
        ssh:*) port=$(gwms_bosco_egress_port "$1" WEB) ;;
        *)
            for forward in ${egress_forwards//,/ }; do
                [[ ${forward%%=*} != "$egress_web_proxy" ]] || { echo "http://${forward#*=}"; return 0; }
            done
            echo "there is no forward $egress_web_proxy"
            return 1
            ;;
    esac
    [[ -n $port ]] || { echo 'the tunnel has no port for it'; return 1; }
    echo "http://127.0.0.1:$port"
}
