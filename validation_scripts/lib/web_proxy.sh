# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a web proxy is called, what the entry says about web proxies, and web_proxy.conf in the state folder, which is what
# the node's other scripts know of the choice.

# The proxy_* variables are for the other libraries.
# shellcheck disable=SC2034

# Seconds from the first request to the choice, at most. SECONDS counts whole ones, so that the true time is below 10.
GWMS_BOSCO_WEB_PROXY_ALL_S=9
# Candidates that are tested. More are a mistake, and would take the time from the good ones.
GWMS_BOSCO_WEB_PROXY_MAX=16

# gwms_bosco_web_proxy_url TEXT: the one spelling `http://HOST:PORT` of a proxy, else 1 and why not. The port must be
# there, as programs that are given none take 80, 1080 or 3128.
gwms_bosco_web_proxy_url() {
    local -x LC_ALL=C text=$1 port
    local name='[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?' numeric='\[[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*\]'
    if [[ ${#text} -gt 300 ]]; then
        echo 'too long'
        return 1
    fi
    if [[ $text == *://* ]]; then
        [[ $text =~ ^[Hh][Tt][Tt][Pp]:// ]] || { echo 'not an http proxy'; return 1; }
        text=${text#*://}
    fi
    text=${text%/}
    [[ $text != *@* ]] || { echo 'it has a password, which everybody on the node could read'; return 1; }
    if [[ $text =~ ^($name|$numeric)$ ]]; then
        echo 'it names no port'
        return 1
    fi
    [[ $text =~ ^($name|$numeric):([0-9]{1,5})$ ]] || { echo 'not http://HOST:PORT'; return 1; }
    port=$((10#${text##*:}))
    [[ $port -ge 1 && $port -le 65535 ]] || { echo 'its port is not one'; return 1; }
    text=${text%:*}
    text=${text%.}
    printf 'http://%s:%s' "${text,,}" "$port"
}

# gwms_bosco_web_proxy_settings: what the entry says, as proxy_* variables; 1 with a sentence on stderr.
gwms_bosco_web_proxy_settings() {
    local host='([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?\.?|\[[0-9A-Fa-f:.]+\])'
    local proxy="http://$host:[0-9]{1,5}/?" url="http://$host(:[0-9]{1,5})?(/[A-Za-z0-9._~:@!+=%/-]*)?"
    local way='(environment|pac|wpad)'
    proxy_site=$(gwms_bosco_config_checked GWMS_BOSCO_WEB_PROXIES "$proxy(,$proxy)*") &&
        proxy_backup=$(gwms_bosco_config_checked GWMS_BOSCO_WEB_PROXY_BACKUP "$proxy(,$proxy)*") &&
        proxy_discover=$(gwms_bosco_config_checked GWMS_BOSCO_WEB_PROXY_DISCOVER "$way(,$way)*") &&
        proxy_pac_urls=$(gwms_bosco_config_checked GWMS_BOSCO_PAC_URLS "$url(,$url)*") &&
        proxy_wpad_urls=$(gwms_bosco_config_checked GWMS_BOSCO_WPAD_URLS "$url(,$url)*") &&
        proxy_direct=$(gwms_bosco_config_bool GWMS_BOSCO_WEB_PROXY_DIRECT False) &&
        proxy_test_cvmfs=$(gwms_bosco_config_checked GWMS_BOSCO_WEB_PROXY_TEST_CVMFS "$url") &&
        proxy_test_frontier=$(gwms_bosco_config_checked GWMS_BOSCO_WEB_PROXY_TEST_FRONTIER "$url") &&
        proxy_max_latency_ms=$(gwms_bosco_config_checked GWMS_BOSCO_WEB_PROXY_MAX_LATENCY_MS '[1-9][0-9]{0,5}' 1000) &&
        proxy_spread_s=$(gwms_bosco_config_checked GWMS_BOSCO_WEB_PROXY_SPREAD_S '[0-9]{1,5}' 0) &&
        proxy_site=$(gwms_bosco_web_proxy_spelled GWMS_BOSCO_WEB_PROXIES "$proxy_site") &&
        proxy_backup=$(gwms_bosco_web_proxy_spelled GWMS_BOSCO_WEB_PROXY_BACKUP "$proxy_backup")
}

# gwms_bosco_web_proxy_spelled KEY URLS: the comma list with each in the one spelling; 1 with a sentence on stderr.
gwms_bosco_web_proxy_spelled() {
    local word url list=''
    for word in ${2//,/ }; do
        url=$(gwms_bosco_web_proxy_url "$word") || { echo "$1 has ${word:0:60}: $url" >&2; return 1; }
        list+=${list:+,}$url
    done
    printf '%s' "$list"
}

# gwms_bosco_web_proxy_write STATE PROXY SOURCE MAIN MAIN_SOURCE BACKUPS DIRECT: web_proxy.conf for this choice, at once.
# MAIN is what to return to after a step back. BACKUPS (comma list) are those to fall back to, in order, DIRECT whether the servers
# themselves may be asked in the end. LIST is for CVMFS_HTTP_PROXY, FRONTIER and BACKUPS are for Frontier's <proxy> and
# <backupproxy>.
gwms_bosco_web_proxy_write() {
    local list=$2 frontier=$2 backups='' url
    if [[ $1 == direct || $1 == none ]]; then
        frontier=''
    else
        for url in ${6//,/ }; do
            [[ $url != "$2" && ,$backups, != *",$url,"* ]] || continue
            # What it has stepped back from is slow, perhaps, and would be asked by everything else.
            [[ $1 != backup || $url != "$4" ]] || continue
            backups+=${backups:+,}$url
            list+=";$url"
        done
        [[ $7 != True ]] || list+=';DIRECT'
    fi
    gwms_bosco_conf_write "$GWMS_BOSCO_DIR/web_proxy.conf" PROXY "$2" SOURCE "$3" STATE "$1" LIST "$list" \
        FRONTIER "$frontier" BACKUPS "$backups" MAIN "$4" MAIN_SOURCE "$5"
}

# What is left when no candidate passes: the caller's array `others`.
gwms_bosco_web_proxy_fallbacks() {
    local url
    for url in ${proxy_backup//,/ }; do
        others+=("$url")
        [[ ${#others[@]} -lt $GWMS_BOSCO_WEB_PROXY_MAX ]] || break
    done
    [[ $proxy_direct != True ]] || others+=(DIRECT)
}

# gwms_bosco_web_proxy_wait_ms SPREAD_S: a random time in [0, SPREAD_S), ms.
gwms_bosco_web_proxy_wait_ms() {
    local spread_ms=$((10#$1 * 1000))
    # RANDOM has 15 bits; its seed differs from one pilot to the next by number and time of the process.
    echo $((spread_ms > 0 ? (RANDOM * 32768 + RANDOM) % spread_ms : 0))
}
