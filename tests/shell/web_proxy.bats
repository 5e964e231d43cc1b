#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# The shell libraries of web proxies, function by function.

# shellcheck disable=SC2154,SC2317 # what the libraries set and call
load node

setup() {
    pilot_folder
    load_libraries web_fetch pac web_proxy web_proxy_candidates web_proxy_test web_proxy_choice web_proxy_rounds
    state_folder
    proxy_test_cvmfs=http://s:8000/cvmfs/cms.cern.ch/.cvmfspublished
    proxy_urls=() proxy_sources=() proxy_why='' proxy_over=''
    unset http_proxy HTTP_PROXY GWMS_BOSCO_EGRESS_WEB_PROXY
}

# answer_file FILE HEADER... : an answer with status 200, its body from stdin.
answer_file() {
    local file=$1
    shift
    { printf 'HTTP/1.1 200 OK\r\n'; [ $# = 0 ] || printf '%s\r\n' "$@"; printf '\r\n'; cat; } >"$file"
}

# published [NAME] [CATALOG]: a .cvmfspublished with its right digest.
published() {
    printf 'C%s\nB1\nN%s\nT1\n' "${2-0123456789abcdef0123456789abcdef01234567}" "${1-cms.cern.ch}" >text
    cat text
    echo --
    sha1sum <text | cut -c -40
    printf '\001\000\377binary'
}

@test "url: one spelling for one proxy" {
    for word in http://a.b:3128 HTTP://A.B:3128/ a.b:3128 http://a.b.:03128; do
        [ "$(gwms_bosco_web_proxy_url "$word")" = http://a.b:3128 ]
    done
    [ "$(gwms_bosco_web_proxy_url 'http://[2001:DB8::1]:3128')" = 'http://[2001:db8::1]:3128' ]
    [ "$(gwms_bosco_web_proxy_url 10.0.0.1:65535)" = http://10.0.0.1:65535 ]
}

@test "url: says what is wrong with anything else" {
    while IFS='|' read -r word reason; do
        run gwms_bosco_web_proxy_url "$word"
        [ "$status" = 1 ]
        [ "$output" = "$reason" ]
    done <<'TABLE'
|not http://HOST:PORT
http://|not http://HOST:PORT
https://a:1|not an http proxy
socks5://a:1|not an http proxy
http://a|it names no port
[::1]|it names no port
http://a:0|its port is not one
http://a:65536|its port is not one
http://a:123456|not http://HOST:PORT
http://2001:db8::1:3128|not http://HOST:PORT
http://[abc]:1|not http://HOST:PORT
http://u:secret@a:1|it has a password, which everybody on the node could read
http://a:1/x|not http://HOST:PORT
http://$(id):1|not http://HOST:PORT
http://a;b:1|not http://HOST:PORT
-x|not http://HOST:PORT
a b:1|not http://HOST:PORT
TABLE
    run gwms_bosco_web_proxy_url "$(printf 'a%.0s' $(seq 301)):1"
    [ "$output" = 'too long' ]
}

@test "candidates: the documented order, each once, what is none is named" {
    export CVMFS_HTTP_PROXY='http://c1:1|http://c2:1;DIRECT' FRONTIER_PROXY2=http://f2:1 FRONTIER_PROXY10=http://f10:1 \
        FRONTIER_PROXYCONFIGS=http://wrong:1 FRONTIER_SERVER='(serverurl=http://s:8000/X)(proxyurl=http://f0:1)' \
        OSG_SQUID_LOCATION=osg:1 http_proxy=http://c1:1 HTTP_PROXY=http://wrong:1
    proxy_site=http://site:1 proxy_discover=environment proxy_pac_urls='' proxy_wpad_urls=''
    gwms_bosco_web_proxy_candidates
    [ "${proxy_urls[*]}" = 'http://site:1 http://c1:1 http://c2:1 http://f2:1 http://f10:1 http://f0:1 http://osg:1' ]
    [ "${proxy_sources[*]}" = 'site cvmfs-http-proxy cvmfs-http-proxy frontier frontier frontier osg-squid' ]
    [ "$proxy_why" = 'cvmfs-http-proxy: DIRECT is no proxy' ]
}

@test "candidates: the tunnel's comes first, and stands once" {
    export GWMS_BOSCO_EGRESS_WEB_PROXY=http://127.0.0.1:40001 http_proxy=http://127.0.0.1:40001
    proxy_site=http://site:1 proxy_discover=environment
    gwms_bosco_web_proxy_candidates
    [ "${proxy_urls[*]}" = 'http://127.0.0.1:40001 http://site:1' ]
    [ "${proxy_sources[*]}" = 'egress site' ]
}

@test "candidates: HTTP_PROXY counts where http_proxy is not set" {
    export HTTP_PROXY=http://upper:1
    proxy_site='' proxy_discover=environment
    gwms_bosco_web_proxy_candidates
    [ "${proxy_urls[*]}" = http://upper:1 ]
}

@test "candidates: 16 and no more" {
    for count in 16 17; do
        proxy_site=$(for n in $(seq "$count"); do printf 'http://p%s:1,' "$n"; done) proxy_discover=''
        gwms_bosco_web_proxy_candidates
        [ "${#proxy_urls[@]}" = 16 ]
        [ "$proxy_over" = $((count - 16)) ]
    done
    [ "$proxy_why" = '1 candidates beyond the first 16 were not tested' ]
}

@test "write: LIST, FRONTIER and BACKUPS for each state" {
    conf() { gwms_bosco_conf_read "$GWMS_BOSCO_DIR/web_proxy.conf" "$1"; }
    gwms_bosco_web_proxy_write main 'http://[::1]:1' site 'http://[::1]:1' site http://b:1,http://c:1 True
    [ "$(conf LIST)" = 'http://[::1]:1;http://b:1;http://c:1;DIRECT' ]
    [ "$(conf FRONTIER)|$(conf BACKUPS)" = 'http://[::1]:1|http://b:1,http://c:1' ]
    gwms_bosco_web_proxy_write backup http://c:1 backup http://a:1 site http://b:1,http://c:1 False
    [ "$(conf LIST)" = 'http://c:1;http://b:1' ]
    [ "$(conf FRONTIER)|$(conf BACKUPS)|$(conf MAIN)" = 'http://c:1|http://b:1|http://a:1' ]
    gwms_bosco_web_proxy_write direct DIRECT direct http://a:1 site http://b:1 True
    [ "$(conf LIST)|$(conf FRONTIER)|$(conf BACKUPS)" = 'DIRECT||' ]
    run gwms_bosco_web_proxy_write main $'http://a:1\nPROXY=x' site x site '' False
    [ "$status" = 1 ]
    [ "$(conf STATE)" = direct ]
}

@test "pac: the string of a file that answers unconditionally" {
    while IFS='|' read -r file answer; do
        [ "$(printf '%b' "$file" | gwms_bosco_pac_answer)" = "$answer" ]
    done <<'TABLE'
function FindProxyForURL(url, host) { return "PROXY a:1; DIRECT"; }\n|PROXY a:1; DIRECT
// c\n/* x\n */ function  FindProxyForURL ( u,h )\n{\n  return "PROXY a:1" // why\n ; }|PROXY a:1
function FindProxyForURL(url, host) { return 'PROXY a:1' }|PROXY a:1
function FindProxyForURL(url, host) { return (\n"PROXY a:1"\n); };|PROXY a:1
function FindProxyForURL(url, host)\r\n{\r\n    return "PROXY a:1";\r\n}\r\n|PROXY a:1
function FindProxyForURL(url, host) { return "PROXY // a /* :1"; }|PROXY // a /* :1
TABLE
}

@test "pac: no other file is used, and why" {
    while IFS='|' read -r file reason; do
        run gwms_bosco_pac_answer < <(printf '%b' "$file")
        [ "$status" = 1 ]
        [ "$output" = "$reason" ]
    done <<'TABLE'
function FindProxyForURL(url, host) { if (x) return "PROXY a:1"; return "DIRECT"; }|its answer has conditions
function FindProxyForURL(url, host) { return x ? "a" : "b"; }|its answer has conditions
function FindProxyForURL(url, host) { return\n"PROXY a:1" }|its answer is not one return of one string
function FindProxyForURL(url, host) { return /*\n*/ "PROXY a:1" }|its answer is not one return of one string
function FindProxyForURL(url, host) { return ("PROXY a:1"; }|its answer is not one return of one string
function FindProxyForURL(url, host) { return "PROXY " + "a:1"; }|its answer is not one return of one string
function FindProxyForURL(url, host) { return "PROXY a:1"; } x()|its answer is not one return of one string
function FindProxyForURL(url, host) { return "PROXY a:1"; \0 }|its answer is not one return of one string
function FindProxyForURL(url, host) { return "PROXY \\x61:1"; }|a string in it has a backslash or no end
function FindProxyForURL(url, host) { return "PROXY a:1|a string in it has a backslash or no end
function FindProxyForURL(url, host) { return "PROXY a:1"; } /*|a string or comment in it has no end
// \xe2\x80\xa8 x()\nfunction FindProxyForURL(url, host) { return "PROXY a:1"; }|it has odd line ends
<html>log in</html>|it has no FindProxyForURL: no PAC file
|it has no FindProxyForURL: no PAC file
TABLE
}

@test "pac: PROXY entries count, SOCKS and the rest do not" {
    [ "$(gwms_bosco_pac_words 'PROXY a:1;socks b:2; ;HTTPS c:3; proxy [::1]:3;PROXY a b;DIRECT;PROXY $(id)')" = "proxy a:1
no socks b:2 is ignored, as neither CVMFS nor Frontier can use it
no HTTPS c:3 is no http proxy
proxy [::1]:3
no PROXY a b is no PROXY HOST:PORT
no DIRECT is no proxy
no PROXY (id) is no PROXY HOST:PORT" ]
    [ "$(gwms_bosco_pac_words '')" = 'no its answer is empty' ]
}

@test "pac: a file at the limit is used, one byte more is not" {
    gwms_bosco_fetch() { cp ../file "$1"; }
    pac_folder=$GWMS_BOSCO_DIR
    text='function FindProxyForURL(u, h) { return "PROXY a:1"; }'
    for more in 0 1; do
        { printf '%s' "$text"; printf '%*s' $((65536 + more - ${#text})) ''; } | answer_file ../file
        gwms_bosco_pac_one "$more" http://w/wpad.dat
    done
    [ "$(cat "$pac_folder/0.lines")" = 'proxy a:1' ]
    [ "$(cat "$pac_folder/1.lines")" = 'no more than 65536 bytes' ]
}

@test "is_cvmfs takes the published object of its repository alone" {
    published | answer_file good
    gwms_bosco_web_proxy_is_cvmfs good
    published lhcb.cern.ch | answer_file other
    run gwms_bosco_web_proxy_is_cvmfs other
    [ "$status" = 1 ]
    published cms.cern.ch.example.org | answer_file other
    run gwms_bosco_web_proxy_is_cvmfs other
    [ "$output" = 'the .cvmfspublished of another repository' ]
    published cms.cern.ch short | answer_file short Content-Type:x/y
    run gwms_bosco_web_proxy_is_cvmfs short
    [ "$output" = 'no .cvmfspublished but something else (x/y)' ]
    published | sed s/^T1/T2/ | answer_file changed
    run gwms_bosco_web_proxy_is_cvmfs changed
    [ "$output" = 'a .cvmfspublished that was changed on the way' ]
    published | sed '/^--$/,$d' | answer_file cut
    run gwms_bosco_web_proxy_is_cvmfs cut
    [ "$status" = 1 ]
    answer_file empty </dev/null
    run gwms_bosco_web_proxy_is_cvmfs empty
    [ "$status" = 1 ]
}

@test "is_frontier takes a whole answer without an error alone" {
    good='<frontier version="3"><transaction payloads="1"><payload><data>x</data><quality error="0" md5="x"/></payload></transaction></frontier>'
    answer_file good <<<"$good"
    gwms_bosco_web_proxy_is_frontier good
    for bad in "${good/error=\"0\"/error=\"1\"}" "${good%</frontier>}" '<html>quality error="0" </html>' '' \
        "${good/<transaction/<global_error msg=\"x\"\/><transaction}"; do
        answer_file bad <<<"$bad"
        run gwms_bosco_web_proxy_is_frontier bad
        [ "$status" = 1 ]
    done
}

@test "the query in the URL is SELECT 1 FROM DUAL" {
    run python3 -c 'import base64, sys, zlib
print(zlib.decompress(base64.b64decode(sys.argv[1].split("p1=")[1].translate(str.maketrans(".-_", "+/=")))).decode())' \
        "$GWMS_BOSCO_WEB_PROXY_QUERY"
    [ "$output" = 'SELECT 1 FROM DUAL' ]
}

@test "squid: the version of the nearest, of any major version" {
    answer_file a 'Via: 1.1 far (squid/2.7.STABLE9), 1.1 near (squid/6.13-VCS)' </dev/null
    [ "$(gwms_bosco_web_proxy_squid a)" = squid/6.13-VCS ]
    answer_file a 'X-Cache: HIT from x' </dev/null
    [ "$(gwms_bosco_web_proxy_squid a)" = unknown ]
    answer_file a 'Server: x' </dev/null
    [ "$(gwms_bosco_web_proxy_squid a)" = none ]
}

@test "stale: an Age at the limit is not, one more is, and so is a warning" {
    answer_file a 'Age: 86400' </dev/null
    run gwms_bosco_web_proxy_stale a
    [ "$status" = 1 ]
    answer_file a 'Age: 086401' </dev/null
    [ "$(gwms_bosco_web_proxy_stale a)" = 'a stale answer, 86401 s old' ]
    answer_file a 'Warning: 110 squid "Response is stale"' </dev/null
    gwms_bosco_web_proxy_stale a
    answer_file a 'Age: 1+$(id)' </dev/null
    run gwms_bosco_web_proxy_stale a
    [ "$status" = 1 ]
}

@test "fetch_all: what still runs at the end is killed with its children" {
    never() { false; }
    hang() {
        sleep 77 &
        echo $! >"child.$1"
        wait
    }
    SECONDS=0
    # Not under bats' own -e.
    gwms_bosco_fetch_all never 2 hang a b || false
    [ "$SECONDS" -lt 6 ]
    for child in child.0 child.1; do
        for _ in $(seq 100); do
            gwms_bosco_limit_start "$(cat "$child")" >/dev/null || continue 2
            gwms_bosco_limit_pause 0.02 || true
        done
        false
    done
}

@test "fetch_all: ends at once when enough is known" {
    enough() { [ -e 1.done ]; }
    work() { if [ "$1" = 0 ]; then sleep 77; else : >"$1.done"; fi; }
    SECONDS=0
    gwms_bosco_fetch_all enough 60 work a b || false
    [ "$SECONDS" -lt 20 ]
}

@test "rounds: a counter that is none counts as nothing" {
    for value in '' -1 '1+1' 'a[$(id)]' 1234567890; do
        printf 'BAD=%s\n' "$value" >"$GWMS_BOSCO_DIR/web_proxy.rounds"
        [ "$(gwms_bosco_web_proxy_counter BAD)" = 0 ]
    done
    printf 'BAD=08\n' >"$GWMS_BOSCO_DIR/web_proxy.rounds"
    [ "$(gwms_bosco_web_proxy_counter BAD)" = 8 ]
}

# rounds_of SITE BACKUP: a pilot of these, whose proxies are found to be as `verdict` (URL -> ok, slow, bad) and `reason`
# have them.
rounds_of() {
    proxy_site=$1 proxy_backup=$2 proxy_direct=False round_why='' round_siteconf='' round_cvmfs=''
    declare -gA verdict reason=()
    gwms_bosco_web_proxy_round() {
        local url
        proxy_verdicts=() proxy_latencies=() proxy_squids=() proxy_notes=()
        for url in "${@:3}"; do
            proxy_verdicts+=("${verdict[$url]}") proxy_latencies+=(5) proxy_squids+=(unknown)
            proxy_notes+=("${reason[$url]-none}")
        done
    }
}

# conf KEY...: of web_proxy.conf, in one line.
conf() {
    local key line=''
    for key; do line+="${line:+ }$(gwms_bosco_state_read web_proxy.conf "$key")"; done
    printf '%s' "$line"
}

check_rounds() {
    for _ in $(seq "$1"); do
        gwms_bosco_web_proxy_check_round
        gwms_bosco_web_proxy_remember
    done
}

@test "rounds: what steps back to the first choice has returned to it, and watches it as such" {
    rounds_of http://a:1 http://b:1
    gwms_bosco_web_proxy_write backup http://b:1 backup http://a:1 site http://b:1 False
    verdict=([http://a:1]=bad [http://b:1]=bad)
    check_rounds 2
    # The third bad round of the backup is the first good one of the other.
    verdict[http://a:1]=ok
    check_rounds 1
    [ "$(conf STATE PROXY SOURCE MAIN LIST)" = 'main http://a:1 site http://a:1 http://a:1;http://b:1' ]
    verdict=([http://a:1]=bad [http://b:1]=ok)
    check_rounds 3
    [ "$(conf STATE PROXY SOURCE MAIN)" = 'backup http://b:1 backup http://a:1' ]
}

@test "rounds: of backups alone the first is a backup too when it is stepped back to" {
    rounds_of '' http://a:1,http://b:1
    gwms_bosco_web_proxy_write backup http://b:1 backup http://a:1 backup http://a:1,http://b:1 False
    verdict=([http://a:1]=bad [http://b:1]=bad)
    check_rounds 2
    verdict[http://a:1]=ok
    check_rounds 1
    [ "$(conf STATE PROXY SOURCE MAIN LIST)" = 'backup http://a:1 backup http://a:1 http://a:1;http://b:1' ]
}

# choose URL=SOURCE=VERDICT=REASON...: what proxy_setup takes of these candidates, as STATE URL SOURCE, MAIN MAIN_SOURCE.
choose() {
    local word url source found text
    proxy_urls=() proxy_sources=() proxy_why=''
    for word; do
        IFS='=' read -r url source found text <<<"$word"
        verdict[http://$url:1]=$found reason[http://$url:1]=$text
        [ "$source" = backup ] || { proxy_urls+=("http://$url:1") proxy_sources+=("$source"); }
    done
    gwms_bosco_web_proxy_choose || true
    printf '%s %s %s, %s %s' "$proxy_state" "$proxy_url" "$proxy_source" "$proxy_main" "$proxy_main_source"
}

@test "choose: the first choice is the best that may come back" {
    rounds_of '' http://n:1
    while IFS='|' read -r words expected; do
        # shellcheck disable=SC2086 # words
        IFS=, read -r -a words <<<"$words"
        [ "$(choose "${words[@]}" n=backup=ok=none)" = "$expected" ]
    done <<'TABLE'
a=site=ok=none,b=site=ok=none|main http://a:1 site, http://a:1 site
a=site=bad=cvmfs: no answer in time,b=site=ok=none|backup http://b:1 site, http://a:1 site
a=site=bad=cvmfs: (7) refused,b=http-proxy=ok=none|backup http://b:1 http-proxy, http://a:1 site
a=egress=bad=cvmfs: status 503 X,b=site=ok=none|backup http://b:1 site, http://a:1 egress
a=site=slow=takes 2000 ms,b=site=ok=none|backup http://b:1 site, http://a:1 site
a=site=bad=cvmfs: a stale answer,b=site=ok=none|backup http://b:1 site, http://a:1 site
a=site=bad=cvmfs: no answer,b=site=bad=cvmfs: no answer,c=site=ok=none|backup http://c:1 site, http://a:1 site
a=site=bad=cvmfs: no .cvmfspublished but something else (text/html),b=site=ok=none|main http://b:1 site, http://b:1 site
a=site=bad=frontier: no answer of Frontier but something else (x),b=site=ok=none|main http://b:1 site, http://b:1 site
a=site=bad=cvmfs: sends elsewhere: http://x,b=site=ok=none|main http://b:1 site, http://b:1 site
a=site=bad=cvmfs: not an answer of HTTP,b=site=ok=none|main http://b:1 site, http://b:1 site
a=site=bad=cvmfs: status 404 ,b=site=ok=none|main http://b:1 site, http://b:1 site
a=wpad=bad=no header of a cache,b=wpad=ok=none|main http://b:1 wpad, http://b:1 wpad
a=site=bad=cvmfs: sends elsewhere: x,b=site=bad=cvmfs: no answer,c=site=ok=none|backup http://c:1 site, http://b:1 site
a=site=bad=cvmfs: sends elsewhere: x,b=site=bad=cvmfs: no answer|backup http://n:1 backup, http://b:1 site
a=site=bad=cvmfs: sends elsewhere: x|backup http://n:1 backup, http://a:1 site
n=backup=ok=none|backup http://n:1 backup, http://n:1 backup
TABLE
    rounds_of '' ''
    [ "$(choose a=site=slow=takes-2000 b=site=bad=x)" = 'main http://a:1 site, http://a:1 site' ]
    [ "$(choose a=site=bad=x b=site=slow=takes-2000)" = 'backup http://b:1 site, http://a:1 site' ]
    [ "$(choose a=site=bad=x)" = 'none none none, http://a:1 site' ]
    [ "$(choose)" = 'none none none, none none' ]
}

@test "test: who is not named by the site must show that it keeps what it delivers" {
    proxy_test_frontier='' proxy_max_latency_ms=1000 proxy_end=$((SECONDS + 9)) proxy_folder=$GWMS_BOSCO_DIR
    proxy_site=http://site:1 proxy_backup=http://near:1 proxy_tunnel=http://tunnel:1
    gwms_bosco_fetch() { published | answer_file "$1" "${headers[@]}"; echo 0.001 >"$1.time"; }
    tested() { gwms_bosco_web_proxy_test 0 "$1"; cut -d ' ' -f 1,3- "$GWMS_BOSCO_DIR/0.verdict"; }
    headers=('Server: x')
    [ "$(tested http://found:1)" = 'bad none no header of a cache' ]
    for url in http://site:1 http://near:1 http://tunnel:1; do
        [ "$(tested "$url")" = 'ok none no header of a cache' ]
    done
    [ "$(tested DIRECT)" = 'ok none none' ]
    for header in 'Via: 1.1 x' 'X-Cache: MISS from x' 'X-Cache-Lookup: MISS from x:80' 'Age: 0'; do
        headers=("$header")
        [ "$(tested http://found:1)" = 'ok unknown none' ]
    done
    # Nothing was asked for.
    proxy_test_cvmfs=''
    [ "$(tested http://found:1)" = 'ok unknown not tested, as no object is named' ]
}

@test "choose: why is kept of one that is taken all the same" {
    rounds_of '' ''
    choose 'a=site=ok=no header of a cache' >/dev/null
    [ "$proxy_why" = 'site a:1: no header of a cache' ]
}

@test "wait_ms: anywhere below the spread" {
    [ "$(gwms_bosco_web_proxy_wait_ms 0)" = 0 ]
    [ "$(gwms_bosco_web_proxy_wait_ms 08)" -lt 8000 ]
    highest=0
    for _ in $(seq 50); do
        wait_ms=$(gwms_bosco_web_proxy_wait_ms 99999)
        [ "$wait_ms" -lt 99999000 ]
        [ "$wait_ms" -le "$highest" ] || highest=$wait_ms
    done
    [ "$highest" -gt 10000000 ]
}
