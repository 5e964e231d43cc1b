# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # variables of the caller and of gwms_bosco_web_proxy_settings
# One round of looking at the chosen web proxy, and what follows from the rounds before. It counts rounds and knows no
# clock, so that any period will do.

# Bad rounds in a row before the pilot steps back, good ones before it returns.
GWMS_BOSCO_WEB_PROXY_BAD_ROUNDS=3
GWMS_BOSCO_WEB_PROXY_GOOD_ROUNDS=2

# gwms_bosco_web_proxy_check_round: test, count, and change web_proxy.conf when it is time. Sets round_latency (ms or -),
# round_errors (bad rounds so far), round_why of the caller.
gwms_bosco_web_proxy_check_round() {
    local state url main
    local -a asked
    state=$(gwms_bosco_state_read web_proxy.conf STATE none)
    url=$(gwms_bosco_state_read web_proxy.conf PROXY none)
    main=$(gwms_bosco_state_read web_proxy.conf MAIN none)
    round_bad=$(gwms_bosco_web_proxy_counter BAD) round_good=$(gwms_bosco_web_proxy_counter GOOD)
    round_errors=$(gwms_bosco_web_proxy_counter ERRORS)
    [[ $url != none ]] || { round_why='this pilot has no web proxy'; return 0; }
    [[ $(gwms_bosco_state_read web_proxy.conf MAIN_SOURCE) != egress ]] || proxy_tunnel=$main
    asked=("$url")
    # From afar too: only so can it return.
    [[ $state == main || $main == none || $main == "$url" ]] || asked+=("$main")
    gwms_bosco_web_proxy_round gwms_bosco_web_proxy_all_known "$((GWMS_BOSCO_WEB_PROXY_ALL_S - 4))" "${asked[@]}" || return 0
    round_latency=${proxy_latencies[0]}
    if [[ ${proxy_verdicts[0]} == ok ]]; then
        round_bad=0
    else
        round_bad=$((round_bad + 1)) round_errors=$((round_errors + 1)) round_why="$url: ${proxy_notes[0]}"
    fi
    if [[ ${proxy_verdicts[1]-} == ok ]]; then round_good=$((round_good + 1)); else round_good=0; fi
    if [[ $round_good -ge $GWMS_BOSCO_WEB_PROXY_GOOD_ROUNDS ]]; then
        round_latency=${proxy_latencies[1]}
        gwms_bosco_web_proxy_take "$main"
    elif [[ $round_bad -ge $GWMS_BOSCO_WEB_PROXY_BAD_ROUNDS ]]; then
        gwms_bosco_web_proxy_step_back "$url"
    fi
}

# gwms_bosco_web_proxy_step_back URL: to the first that passes now of the site's other proxies and then of the backup list,
# or to the servers themselves where that is allowed; not to URL, which is what fails. Where none passes, it stays.
gwms_bosco_web_proxy_step_back() {
    local url index=0
    local -a others=() left=()
    gwms_bosco_web_proxy_fallbacks
    # shellcheck disable=SC2086 # words
    for url in ${proxy_site//,/ } "${others[@]}"; do
        [[ $url == "$1" ]] || left+=("$url")
    done
    if [[ ${#left[@]} -gt 0 ]] &&
        gwms_bosco_web_proxy_round gwms_bosco_web_proxy_decided "$GWMS_BOSCO_WEB_PROXY_ALL_S" "${left[@]}"; then
        for url in "${left[@]}"; do
            if [[ ${proxy_verdicts[index]} == ok ]]; then
                round_latency=${proxy_latencies[index]}
                gwms_bosco_web_proxy_take "$url"
                return 0
            fi
            index=$((index + 1))
        done
    fi
    round_why+='; nothing else passes'
}

# gwms_bosco_web_proxy_take URL: change web_proxy.conf. The first choice is the main one on whatever way it is come to.
gwms_bosco_web_proxy_take() {
    local state=backup source=backup main main_source
    main=$(gwms_bosco_state_read web_proxy.conf MAIN none)
    main_source=$(gwms_bosco_state_read web_proxy.conf MAIN_SOURCE none)
    if [[ $1 == DIRECT ]]; then
        state=direct source=direct
    elif [[ $1 == "$main" ]]; then
        source=$main_source
        # Else it is that of a site that has backups only.
        [[ $source == backup ]] || state=main
    elif [[ ,$proxy_site, == *",$1,"* ]]; then
        source=site
    fi
    if gwms_bosco_web_proxy_write "$state" "$1" "$source" "$main" "$main_source" "$proxy_site,$proxy_backup" \
        "$proxy_direct"; then
        round_bad=0 round_good=0
    else
        round_why='cannot write web_proxy.conf'
    fi
}

gwms_bosco_web_proxy_counter() {
    local value
    value=$(gwms_bosco_state_read web_proxy.rounds "$1" 0)
    if [[ $value =~ ^[0-9]{1,9}$ ]]; then echo "$((10#$value))"; else echo 0; fi
}

# gwms_bosco_web_proxy_remember: what the next round needs to know.
gwms_bosco_web_proxy_remember() {
    gwms_bosco_conf_write "$GWMS_BOSCO_DIR/web_proxy.rounds" BAD "$round_bad" GOOD "$round_good" ERRORS "$round_errors" \
        SITECONF "$round_siteconf" CVMFS "$round_cvmfs"
}
