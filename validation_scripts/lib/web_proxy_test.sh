# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # results are for the caller; gwms_bosco_web_proxy_settings
# Does a web proxy work? It must deliver what payloads will ask for: a repository's .cvmfspublished and the answer of a
# Frontier server. That a port is open, or that something answers with 200, proves nothing: portals do that.

# Seconds one request may take.
GWMS_BOSCO_WEB_PROXY_REQUEST_S=4
# Age, in seconds, of an object that servers allow to be kept for a minute.
GWMS_BOSCO_WEB_PROXY_STALE_S=86400
# SELECT 1 FROM DUAL: zip, then base64 with . - _ for + / =.
# Source: fermitools/frontier client/fnget.py.
GWMS_BOSCO_WEB_PROXY_QUERY='type=frontier_request:1:DEFAULT&encoding=BLOBzip5&p1=eNoLdvVxdQ5RMFRwC-L3VXAJdfQBACyLBKw_'

# gwms_bosco_web_proxy_round ENOUGH END URL...: test all at once until the function ENOUGH is content or SECONDS is END.
# Then proxy_verdicts, proxy_latencies, proxy_squids, proxy_notes, by index: ok, slow (works, but takes longer than
# allowed) or bad; ms or -; squid/VERSION, none or unknown; why not ok. URL may be DIRECT.
gwms_bosco_web_proxy_round() {
    local index=0 line word
    proxy_folder=$(mktemp -d "$GWMS_BOSCO_DIR/web_proxy.XXXXXX") || return 1
    proxy_verdicts=() proxy_latencies=() proxy_squids=() proxy_notes=()
    proxy_count=$(($# - 2)) proxy_end=$2
    gwms_bosco_fetch_all "$1" "$2" gwms_bosco_web_proxy_test "${@:3}"
    while [[ $index -lt $proxy_count ]]; do
        line="bad - unknown no answer in time"
        for word in so-far verdict; do
            [[ ! -e $proxy_folder/$index.$word ]] || IFS= read -r line <"$proxy_folder/$index.$word"
        done
        read -r "proxy_verdicts[index]" "proxy_latencies[index]" "proxy_squids[index]" "proxy_notes[index]" <<<"$line"
        index=$((index + 1))
    done
    rm -rf "$proxy_folder"
}

# Enough is known when one has passed and all before it have failed.
gwms_bosco_web_proxy_decided() {
    local index=0 verdict
    while [[ $index -lt $proxy_count ]]; do
        [[ -e $proxy_folder/$index.verdict ]] || return 1
        read -r verdict _ <"$proxy_folder/$index.verdict"
        [[ $verdict != ok ]] || return 0
        index=$((index + 1))
    done
}

gwms_bosco_web_proxy_all_known() {
    local -a known=("$proxy_folder"/*.verdict)
    [[ -e ${known[0]} && ${#known[@]} -ge $proxy_count ]]
}

# gwms_bosco_web_proxy_test INDEX URL: INDEX.verdict with the four words of a verdict.
gwms_bosco_web_proxy_test() {
    local url=$2 verdict=ok latency=- squid=unknown note=none object=cvmfs file=$proxy_folder/$1
    [[ $url != DIRECT ]] || url=''
    if [[ -n $proxy_test_cvmfs && -n $proxy_test_frontier ]]; then
        gwms_bosco_web_proxy_beside "$file.frontier" "$url" &
    elif [[ -z $proxy_test_cvmfs ]]; then
        object=frontier
    fi
    if [[ -z $proxy_test_cvmfs$proxy_test_frontier ]]; then
        note='not tested, as no object is named'
    else
        gwms_bosco_web_proxy_first_or_second "$object" "$file" "$url"
    fi
    if [[ $verdict != bad && $squid == none && -n $url ]]; then
        gwms_bosco_web_proxy_named "$url" || verdict=bad
        [[ $verdict == slow ]] || note='no header of a cache'
    fi
    if [[ $verdict != bad ]]; then
        wait
        [[ ! -s $file.frontier.note ]] || { verdict=bad; IFS= read -r note <"$file.frontier.note"; }
    fi
    gwms_bosco_web_proxy_verdict verdict
}

# gwms_bosco_web_proxy_named URL: 0 for one that the site file names, which is the operator's word that it may be asked for
# everything. Any other must be a cache: all pilots would load the servers through one that only forwards.
gwms_bosco_web_proxy_named() {
    [[ ,$proxy_site,$proxy_backup,${proxy_tunnel-}, == *",$1,"* ]]
}

# The Frontier query at the same time; only that it fails is of interest, as its time is the server's too.
gwms_bosco_web_proxy_beside() {
    local latency squid note
    gwms_bosco_web_proxy_timed frontier "$1" "$2" || printf '%s\n' "$note" >"$1.note"
}

# gwms_bosco_web_proxy_first_or_second OBJECT FILE PROXY: the first answer may have come from afar, so that a slow one is
# asked for again: what is in the cache counts. Sets verdict, latency, squid and note of the caller.
gwms_bosco_web_proxy_first_or_second() {
    local before
    gwms_bosco_web_proxy_timed "$@" || { verdict=bad; return; }
    [[ $latency -gt $proxy_max_latency_ms ]] || return 0
    before=$latency note="takes $latency ms, more than $proxy_max_latency_ms" verdict=bad
    # For the case that time runs out now.
    gwms_bosco_web_proxy_verdict so-far
    gwms_bosco_web_proxy_timed "$@" || return
    verdict=slow
    [[ $before -gt $latency ]] || latency=$before
    note="takes $latency ms, more than $proxy_max_latency_ms"
    [[ $latency -gt $proxy_max_latency_ms ]] || { verdict=ok note=none; }
}

gwms_bosco_web_proxy_verdict() {
    printf '%s %s %s %s\n' "$verdict" "$latency" "$squid" "$note" >"$file.new" && mv "$file.new" "$file.$1"
}

# gwms_bosco_web_proxy_timed OBJECT FILE PROXY: fetch and judge; sets latency, squid and, when it fails, note of the caller.
gwms_bosco_web_proxy_timed() {
    local begin left reason
    left=$((proxy_end - SECONDS))
    [[ $left -le $GWMS_BOSCO_WEB_PROXY_REQUEST_S ]] || left=$GWMS_BOSCO_WEB_PROXY_REQUEST_S
    [[ $left -ge 1 ]] || left=1
    begin=$(gwms_bosco_fetch_now)
    if [[ $1 == cvmfs ]]; then
        reason=$(gwms_bosco_fetch "$2" "$left" "$3" "$proxy_test_cvmfs")
    else
        reason=$(gwms_bosco_fetch "$2" "$left" "$3" \
            "${proxy_test_frontier%/}/Frontier/$GWMS_BOSCO_WEB_PROXY_QUERY" 'X-Frontier-Id: gwms-bosco')
    fi || { note="$1: $reason"; return 1; }
    latency=$(gwms_bosco_fetch_ms "$2" "$begin")
    squid=$(gwms_bosco_web_proxy_squid "$2")
    reason=$(gwms_bosco_web_proxy_stale "$2") && { note="$1: $reason"; return 1; }
    reason=$("gwms_bosco_web_proxy_is_$1" "$2") || { note="$1: $reason"; return 1; }
}

# gwms_bosco_web_proxy_squid FILE: squid/VERSION of the last server in Via, which is the nearest; `unknown` for another
# cache, `none` where no header tells of one.
gwms_bosco_web_proxy_squid() {
    local -x LC_ALL=C via
    via=$(gwms_bosco_fetch_head "$1" | grep -i '^Via:' | grep -oE 'squid/[0-9][A-Za-z0-9.-]{0,30}' | tail -n 1)
    if [[ -n $via ]]; then
        echo "$via"
    elif gwms_bosco_fetch_head "$1" | grep -qiE '^(Via|X-Cache|X-Cache-Lookup|Age):'; then
        echo unknown
    else
        echo none
    fi
}

# gwms_bosco_web_proxy_stale FILE: 0 and how old, when the answer is from a cache that has lost its servers.
gwms_bosco_web_proxy_stale() {
    local -x LC_ALL=C age warning
    age=$(gwms_bosco_fetch_header "$1" Age)
    warning=$(gwms_bosco_fetch_header "$1" Warning)
    if [[ $age =~ ^[0-9]{1,12}$ && $((10#$age)) -gt $GWMS_BOSCO_WEB_PROXY_STALE_S ]]; then
        echo "a stale answer, $((10#$age)) s old"
    elif [[ $warning =~ ^11[01] ]]; then
        echo 'a stale answer, by its own warning'
    else
        return 1
    fi
}

# gwms_bosco_web_proxy_is_cvmfs FILE: 0 for a .cvmfspublished of the repository that the URL names, as its client reads it.
# Source: cvmfs/cvmfs manifest.cc, ExportString; signature.cc, VerifyLetter: the digest is of all before the two dashes.
gwms_bosco_web_proxy_is_cvmfs() {
    local -x LC_ALL=C text digest repository='' own
    text=$(gwms_bosco_fetch_body "$1" | head -n 40 | tr -d '\000' | sed -n '1,/^--$/p;/^--$/{n;p;q}')
    [[ ! $proxy_test_cvmfs =~ /cvmfs/([A-Za-z0-9.-]+)/\.cvmfspublished$ ]] || repository=${BASH_REMATCH[1]}
    if [[ ! $text =~ ^C[0-9a-f]{40,}(-[a-z0-9]+)?$'\n' || $text != *$'\n--\n'* || $text != *$'\nN'"$repository"* ]]; then
        echo "no .cvmfspublished but something else ($(gwms_bosco_fetch_header "$1" Content-Type))"
        return 1
    fi
    if [[ -n $repository && $text != *$'\nN'"$repository"$'\n'* ]]; then
        echo 'the .cvmfspublished of another repository'
        return 1
    fi
    digest=${text##*$'\n--\n'}
    [[ $digest =~ ^[0-9a-f]{40}$ ]] && command -v sha1sum >/dev/null 2>&1 || return 0
    own=$(printf '%s\n' "${text%%$'\n--\n'*}" | sha1sum)
    [[ ${own%% *} == "$digest" ]] || { echo 'a .cvmfspublished that was changed on the way'; return 1; }
}

# gwms_bosco_web_proxy_is_frontier FILE: 0 for a whole answer of a Frontier server without an error.
# Source: fermitools/frontier ResponseFormat.java.
gwms_bosco_web_proxy_is_frontier() {
    local -x LC_ALL=C text
    text=$(gwms_bosco_fetch_body "$1" | tr -d '\000')
    if [[ $text != *'<frontier '* || $text != *'</frontier>'* ]]; then
        echo "no answer of Frontier but something else ($(gwms_bosco_fetch_header "$1" Content-Type))"
        return 1
    fi
    if [[ ! $text =~ \<quality\ error=\"0\"\  || $text == *'<global_error'* ]]; then
        echo 'the Frontier server answers with an error'
        return 1
    fi
}
