# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # results are for the caller; gwms_bosco_web_proxy_settings
# Which web proxies a node might use, in the order in which they are preferred: that of a closed site's tunnel (the job
# wrapper has set the variable), those of the site file, of the environment, of PAC files, of WPAD. Whatever is no proxy
# is left out, and why is kept.

# gwms_bosco_web_proxy_candidates: set proxy_urls and proxy_sources (same index), proxy_tunnel (the tunnel's, or empty),
# proxy_why (text), proxy_over (how many were too many). Takes time only for PAC files.
gwms_bosco_web_proxy_candidates() {
    local way url
    proxy_urls=() proxy_sources=() proxy_why='' proxy_over=0
    [[ -z ${GWMS_BOSCO_EGRESS_WEB_PROXY-} ]] || gwms_bosco_web_proxy_candidate egress "$GWMS_BOSCO_EGRESS_WEB_PROXY"
    proxy_tunnel=${proxy_urls[0]-}
    for url in ${proxy_site//,/ }; do
        gwms_bosco_web_proxy_candidate site "$url"
    done
    # In the documented order, whatever order the list has.
    for way in environment pac wpad; do
        [[ ,$proxy_discover, == *,$way,* ]] && "gwms_bosco_web_proxy_candidates_$way"
    done
    if [[ $proxy_over -gt 0 ]]; then
        gwms_bosco_web_proxy_note "$proxy_over candidates beyond the first $GWMS_BOSCO_WEB_PROXY_MAX were not tested"
    fi
    return 0
}

# gwms_bosco_web_proxy_note TEXT: one more reason why something was not taken.
gwms_bosco_web_proxy_note() {
    local text
    text=$(gwms_bosco_report_safe "$1" 160)
    proxy_why+=${proxy_why:+; }$text
}

# gwms_bosco_web_proxy_candidate SOURCE TEXT: one more, unless it is none or is there already.
gwms_bosco_web_proxy_candidate() {
    local url known
    if ! url=$(gwms_bosco_web_proxy_url "$2"); then
        gwms_bosco_web_proxy_note "$1 ${2:0:60}: $url"
        return 0
    fi
    for known in "${proxy_urls[@]}"; do
        [[ $known != "$url" ]] || return 0
    done
    if [[ ${#proxy_urls[@]} -ge $GWMS_BOSCO_WEB_PROXY_MAX ]]; then
        proxy_over=$((proxy_over + 1))
        return 0
    fi
    proxy_urls+=("$url")
    proxy_sources+=("$1")
}

# gwms_bosco_web_proxy_words TEXT SEPARATORS: one a line, of a value that anybody may have set.
gwms_bosco_web_proxy_words() {
    local -x LC_ALL=C
    printf '%s\n' "${1:0:4096}" | tr -s "$2 \\t\\r" '\n' | sed '/^$/d'
}

# The node's own variables.
# Source: CVMFS_HTTP_PROXY: groups with ; and |; FRONTIER_SERVER: (key=value)...; OSG: OSG_SQUID_LOCATION, which says
# UNAVAILABLE where there is none; WLCG: http_proxy.
gwms_bosco_web_proxy_candidates_environment() {
    local word
    while read -r word; do
        case $word in
            DIRECT | auto) gwms_bosco_web_proxy_note "cvmfs-http-proxy: $word is no proxy" ;;
            *) gwms_bosco_web_proxy_candidate cvmfs-http-proxy "$word" ;;
        esac
    done < <(gwms_bosco_web_proxy_words "${CVMFS_HTTP_PROXY-}" ';|')
    while read -r word; do
        gwms_bosco_web_proxy_candidate frontier "$word"
    done < <(gwms_bosco_web_proxy_frontier_words)
    word=${OSG_SQUID_LOCATION-}
    [[ -z $word || $word == UNAVAILABLE ]] || gwms_bosco_web_proxy_candidate osg-squid "$word"
    word=${http_proxy:-${HTTP_PROXY-}}
    [[ -z $word ]] || gwms_bosco_web_proxy_candidate http-proxy "$word"
}

# FRONTIER_PROXY, FRONTIER_PROXY1... in the order of their numbers, then the (proxyurl=...) of FRONTIER_SERVER and its
# numbered forms.
gwms_bosco_web_proxy_frontier_words() {
    local name
    for name in $(compgen -e FRONTIER_PROXY | grep -E '^FRONTIER_PROXY[0-9]{0,3}$' | sort -k 1.15n); do
        gwms_bosco_web_proxy_words "${!name}" ';,'
    done
    for name in $(compgen -e FRONTIER_SERVER | grep -E '^FRONTIER_SERVER[0-9]{0,3}$' | sort -k 1.16n); do
        gwms_bosco_web_proxy_words "${!name}" '()' | sed -n 's/^proxyurl=//p'
    done
}

gwms_bosco_web_proxy_candidates_pac() {
    gwms_bosco_web_proxy_candidates_files pac "$proxy_pac_urls ${PAC_URLS-}"
}

gwms_bosco_web_proxy_candidates_wpad() {
    gwms_bosco_web_proxy_candidates_files wpad "$proxy_wpad_urls"
}

# gwms_bosco_web_proxy_candidates_files SOURCE URLS: fetch PAC files and take the proxies of those that say them plainly.
gwms_bosco_web_proxy_candidates_files() {
    local url kind text
    while read -r url kind text; do
        case $kind in
            proxy) gwms_bosco_web_proxy_candidate "$1" "$text" ;;
            *) gwms_bosco_web_proxy_note "$1 $url: $text" ;;
        esac
    done < <(gwms_bosco_pac_proxies "$(gwms_bosco_web_proxy_words "$2" ';,')")
}
