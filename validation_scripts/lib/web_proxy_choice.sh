# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # results are for the caller
# Which of the candidates is taken: the first that passes; then the first of the backup list; then the first that works
# but is slow; then none at all, where the servers themselves may be asked. The backups are asked only when they are
# needed, as they belong to somebody else. The first choice, to which a pilot returns, is the best candidate that passes
# or may do so later.

# gwms_bosco_web_proxy_choose: set proxy_state, proxy_url, proxy_source, proxy_latency, proxy_squid, proxy_main,
# proxy_main_source, and add to proxy_why. 1 when there is nothing to take.
# shellcheck disable=SC2154 # gwms_bosco_web_proxy_settings, _candidates
gwms_bosco_web_proxy_choose() {
    local end=$GWMS_BOSCO_WEB_PROXY_ALL_S slow=''
    local -a others=()
    proxy_state=none proxy_url=none proxy_source=none proxy_latency='' proxy_squid='' proxy_main='' proxy_main_source=''
    gwms_bosco_web_proxy_fallbacks
    # What comes after needs its time too.
    [[ ${#others[@]} -eq 0 ]] || end=$((end - 3))
    [[ ${#proxy_urls[@]} -gt 0 ]] || gwms_bosco_web_proxy_note 'no candidate was found'
    gwms_bosco_web_proxy_first main "$end" "${proxy_urls[@]}" && return 0
    if [[ -z $proxy_main ]]; then
        proxy_main=${proxy_urls[0]:-${proxy_backup%%,*}} proxy_main_source=${proxy_sources[0]:-backup}
        [[ -n $proxy_main ]] || proxy_main=none proxy_main_source=none
    fi
    gwms_bosco_web_proxy_first others "$GWMS_BOSCO_WEB_PROXY_ALL_S" "${others[@]}" && return 0
    [[ -n $slow ]] || return 1
    read -r proxy_state proxy_url proxy_source proxy_latency proxy_squid <<<"$slow"
}

# gwms_bosco_web_proxy_first LIST END URL...: test them and take the first that passes; the first that is slow is kept as
# the caller's `slow`.
# shellcheck disable=SC2154 # gwms_bosco_web_proxy_round
gwms_bosco_web_proxy_first() {
    local list=$1 index=0 url state source
    [[ $# -gt 2 ]] || return 1
    gwms_bosco_web_proxy_round gwms_bosco_web_proxy_decided "$2" "${@:3}" || return 1
    shift 2
    for url; do
        case $list:$url in
            main:*)
                source=${proxy_sources[index]}
                if [[ -z $proxy_main ]] && gwms_bosco_web_proxy_may_pass "$index"; then
                    proxy_main=$url proxy_main_source=$source
                fi
                # One that is taken while the first choice fails.
                state=backup
                [[ $proxy_main != "$url" ]] || state=main
                ;;
            *:DIRECT) state=direct source=direct ;;
            *) state=backup source=backup ;;
        esac
        case ${proxy_verdicts[index]} in
            ok)
                proxy_state=$state proxy_url=$url proxy_source=$source
                proxy_latency=${proxy_latencies[index]} proxy_squid=${proxy_squids[index]}
                [[ ${proxy_notes[index]} == none ]] ||
                    gwms_bosco_web_proxy_note "$source ${url#http://}: ${proxy_notes[index]}"
                return 0
                ;;
            slow) slow=${slow:-$state $url $source ${proxy_latencies[index]} ${proxy_squids[index]}} ;;
        esac
        gwms_bosco_web_proxy_note "$source ${url#http://}: ${proxy_notes[index]}"
        index=$((index + 1))
    done
    return 1
}

# gwms_bosco_web_proxy_may_pass INDEX: 0 for one that has passed, or failed as a proxy fails for a while: no answer, slow,
# stale, an error of a server. What answers with something else is no proxy for this and will not become one.
# shellcheck disable=SC2154 # gwms_bosco_web_proxy_round
gwms_bosco_web_proxy_may_pass() {
    [[ ${proxy_verdicts[$1]} == bad ]] || return 0
    case ${proxy_notes[$1]} in
        *' something else '* | *'sends elsewhere'* | *'not an answer of HTTP'* | *'an answer of more than'*) return 1 ;;
        *'of another repository' | *'changed on the way' | *': status 4'* | 'no header of a cache') return 1 ;;
    esac
}
