# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# One HTTP request by curl or wget, whichever there is, with nothing of the node's or the user's settings: no variable, no
# file, no redirection followed, no more bytes than asked. And many at once, with one time limit for all.

# Bytes of an answer, head and body; what is asked for here has some thousand.
GWMS_BOSCO_FETCH_MAX_BYTES=262144

# gwms_bosco_fetch_find: set fetch_tool to the one that works here; 1 when none does. That a file of the name is there does
# not mean that it starts: libraries of a computing centre's own may be in its way.
gwms_bosco_fetch_find() {
    for fetch_tool in curl wget; do
        "$fetch_tool" --version </dev/null >/dev/null 2>&1 && return 0
    done
    return 1
}

# gwms_bosco_fetch FILE SECONDS PROXY URL [HEADER]: the answer's head and body to FILE; PROXY is empty for none. 0 when
# an answer with status 200 is there, else 1 and why on stdout.
gwms_bosco_fetch() {
    local -x LC_ALL=C file=$1 status
    gwms_bosco_fetch_run "$@"
    if [[ -s $file && $(wc -c <"$file") -ge $GWMS_BOSCO_FETCH_MAX_BYTES ]]; then
        echo "an answer of more than $GWMS_BOSCO_FETCH_MAX_BYTES bytes"
        return 1
    fi
    status=$(head -n 1 "$file" | tr -d '\000\r')
    if [[ ! $status =~ ^HTTP/[0-9.]+\ ([0-9]{3}) ]]; then
        if [[ -s $file ]]; then echo 'not an answer of HTTP'; else gwms_bosco_fetch_complaint "$file.err"; fi
        return 1
    fi
    status=${BASH_REMATCH[1]}
    case $status in
        200)
            [[ $(cat "$file.status") != 0 ]] || return 0
            gwms_bosco_fetch_complaint "$file.err"
            ;;
        3*) echo "sends elsewhere: $(gwms_bosco_fetch_header "$file" Location)" ;;
        *) echo "status $status $(gwms_bosco_fetch_header "$file" X-Squid-Error)" ;;
    esac
    return 1
}

gwms_bosco_fetch_run() (
    unset http_proxy HTTP_PROXY https_proxy HTTPS_PROXY all_proxy ALL_PROXY no_proxy NO_PROXY
    unset WGETRC SYSTEM_WGETRC CURL_HOME
    export HOME=/nonexistent
    if [[ $fetch_tool == curl ]]; then
        set -- "$1" curl -q -g -s -S -i --proto '=http' --connect-timeout "$2" --max-time "$2" -A gwms-bosco \
            -o /dev/fd/4 -w '%{time_total}' ${3:+-x "$3"} ${5:+-H "$5"} -- "$4"
    else
        # Some builds of wget know no --no-config; words by -e count more than files.
        set -- "$1" wget -nv -S --save-headers --max-redirect=0 -t 1 -T "$2" -U gwms-bosco \
            -e "use_proxy=$([[ -n $3 ]] && echo on || echo off)" -e "http_proxy=$3" -e no_proxy= -e netrc=off \
            ${5:+"--header=$5"} -O /dev/fd/4 -- "$4"
    fi
    gwms_bosco_fetch_capped "$@" </dev/null
)

# gwms_bosco_fetch_capped FILE COMMAND...: descriptor 4 to FILE and stderr to FILE.err, each only so far; stdout, which is
# curl's own time of the request, to FILE.time; the exit code to FILE.status.
gwms_bosco_fetch_capped() {
    local file=$1
    shift
    { { "$@" 4>&1 2>&3 >"$file.time"; echo "$?" >"$file.status"; } | head -c "$GWMS_BOSCO_FETCH_MAX_BYTES" >"$file"; } 3>&1 | head -c 16384 >"$file.err"
}

# gwms_bosco_fetch_ms FILE BEGIN: how long it took, ms: by curl's word, else since BEGIN. On a busy node the start of a
# program takes longer than the answer of a proxy.
gwms_bosco_fetch_ms() {
    local -x LC_ALL=C time
    time=$(head -c 20 "$1.time")
    if [[ $time =~ ^([0-9]{1,5})\.([0-9]{3}) ]]; then
        echo $((10#${BASH_REMATCH[1]}${BASH_REMATCH[2]}))
    else
        echo $(($(gwms_bosco_fetch_now) - $2))
    fi
}

# gwms_bosco_fetch_now: the time, ms.
gwms_bosco_fetch_now() {
    local -x LC_ALL=C now=${EPOCHREALTIME-}
    if [[ -z $now ]]; then
        now=$(date +%s.%N)
        # A date(1) that knows no %N.
        [[ $now =~ ^[0-9]+\.[0-9]{6} ]] || now=${now%%.*}.000000
    fi
    now=${now/[.,]/}
    echo "${now:0:13}"
}

# curl's or wget's own last words; wget has the heads of answers among them, further in.
gwms_bosco_fetch_complaint() {
    local -x LC_ALL=C text
    text=$(tr -d '\000\r' <"$1" | grep -v '^ ' | tail -n 1)
    text=${text#curl: }
    text=${text#wget: }
    [[ ! $text =~ ^\(28\)|timed\ out|Giving\ up ]] || text='no answer in time'
    printf '%s' "${text:-no answer}"
}

# gwms_bosco_fetch_header FILE NAME: the last header of that name; 60 bytes at most.
gwms_bosco_fetch_header() {
    local -x LC_ALL=C text
    text=$(gwms_bosco_fetch_head "$1" | grep -i "^$2:" | tail -n 1)
    text=${text#*:}
    text=${text# }
    printf '%s' "${text:0:60}"
}

gwms_bosco_fetch_head() {
    LC_ALL=C sed $'/^\r*$/q' "$1" | LC_ALL=C tr -d '\000\r'
}

gwms_bosco_fetch_body() {
    LC_ALL=C sed $'1,/^\r*$/d' "$1"
}

# gwms_bosco_fetch_all DONE END COMMAND WORD...: run `COMMAND INDEX WORD` for each WORD, all at once, each as a group of
# processes of its own, until `DONE` (a function) says that enough is known, or SECONDS is END. Whatever then still runs is
# killed with all it has started, and waited for by nobody.
gwms_bosco_fetch_all() {
    local finished=$1 end=$2 command=$3 index=0 word
    local -a groups=()
    shift 3
    set -m
    for word; do
        "$command" "$index" "$word" </dev/null 2>/dev/null &
        groups+=("$!")
        index=$((index + 1))
    done
    set +m
    while [[ $SECONDS -lt $end ]] && ! "$finished"; do gwms_bosco_limit_pause 0.03; done
    for word in "${groups[@]}"; do
        # First, as bash would tell of one that was killed.
        disown "$word" 2>/dev/null
        kill -9 -- "-$word" 2>/dev/null
    done
    return 0
}
