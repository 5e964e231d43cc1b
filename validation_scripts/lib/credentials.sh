# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Looks at CA directories, proxies and tokens as the tools of a payload will: with openssl where there is one, else by
# their form. Nothing secret is printed.

# Seconds for one look; a folder on a dead file system answers never.
GWMS_BOSCO_CREDENTIALS_S=20
# Larger is no token and no proxy.
GWMS_BOSCO_CREDENTIAL_MAX_BYTES=65536
# Seconds by which the clocks of who made it and of the node may differ.
GWMS_BOSCO_CREDENTIAL_SKEW_S=300
# Where CVMFS repositories keep a CA directory.
# Source: OSG "CA certificates" page; EGI's cvmfs-repo grid.cern.ch.
GWMS_BOSCO_CVMFS_CA='oasis.opensciencegrid.org/mis/certificates grid.cern.ch/etc/grid-security/certificates'

# gwms_bosco_credentials_ca_program: POSIX sh; $1 = folder, $2 = now as UTC YYYYMMDDHHMMSS. Exit 0 and one line
# `certificates N crls STATE`, STATE one of none, good, expired, unread; else 1 and a reason. Text, since for a folder in
# CVMFS it runs where /cvmfs is.
gwms_bosco_credentials_ca_program() {
    # No here-document: older bash keeps those in a file, and on a full disk half a program would be left.
    # shellcheck disable=SC2016 # variables of the program
    printf '%s\n' 'd=$1 now=$2
[ -d "$d" ] || { echo "$d: there is no such folder"; exit 1; }
h="[0-9a-f]"
h=$h$h$h$h$h$h$h$h
n=$(grep -ls -e "-----BEGIN .*CERTIFICATE-----" "$d"/$h.[0-9] | wc -l)
n=$((n + 0))
[ "$n" -gt 0 ] || { echo "$d: holds no certificate under its hash"; exit 1; }
state=none left=200 # more than all CAs of the grid together; as many expired ones are answer enough
for f in "$d"/$h.r[0-9]; do
    [ -f "$f" ] || continue
    [ "$state" != none ] || state=expired
    [ "$left" -gt 0 ] || break
    left=$((left - 1))
    if ! command -v openssl >/dev/null 2>&1; then
        state=unread
        break
    fi
    next=$(openssl crl -in "$f" -noout -nextupdate 2>/dev/null | awk -F "[= :]+" "{
        m = (index(\"JanFebMarAprMayJunJulAugSepOctNovDec\", \$2) + 2) / 3
        if (m == int(m)) printf \"%04d%02d%02d%02d%02d%02d\", \$7, m, \$3, \$4, \$5, \$6
    }")
    # Compared as numbers of equal length; sort(1), as they are too long for some shells.
    if [ -n "$next" ] && [ "$(printf "%s\n" "$now" "$next" | sort | tail -n 1)" = "$next" ]; then
        state=good
        break
    fi
done
echo "certificates $n crls $state"'
}

# gwms_bosco_credentials_ca FOLDER WAY...: look at a CA directory, WAY before the command (run-with-cvmfs, or nothing).
gwms_bosco_credentials_ca() {
    local folder=$1 output=$GWMS_BOSCO_DIR/credentials.log rc answer
    shift
    gwms_bosco_limit_run "$GWMS_BOSCO_CREDENTIALS_S" "$output" "$@" /bin/sh -c "$(gwms_bosco_credentials_ca_program)" \
        ca "$folder" "$(date -u +%Y%m%d%H%M%S)"
    rc=$?
    answer=$(tail -n 1 "$output")
    rm -f "$output"
    case $rc:$answer in
        '0:certificates '*) ;;
        # On the way to the program: a container, say, that ends well without it.
        0:*) answer="$folder: nobody has looked at it: $answer" rc=1 ;;
        124:*) answer="$folder: no answer in $GWMS_BOSCO_CREDENTIALS_S s" ;;
    esac
    printf '%s\n' "$answer"
    return "$rc"
}

# gwms_bosco_credentials_file FILE WHAT: 0 when it is a readable, not too large file of ours that no other account can
# read; else 1 and a reason.
gwms_bosco_credentials_file() {
    local mode size
    [[ -f $1 && -r $1 ]] || { echo "the $2 file cannot be read"; return 1; }
    size=$(wc -c <"$1") || return 1
    [[ $size -gt 0 && $size -le $GWMS_BOSCO_CREDENTIAL_MAX_BYTES ]] || { echo "the $2 file has $((size)) bytes"; return 1; }
    mode=$(stat -L -c %a "$1" 2>/dev/null)
    [[ $mode == *00 ]] || { echo "the $2 file has mode $mode: others can read it"; return 1; }
}

# gwms_bosco_credentials_proxy FILE: 0 and `until DATE` or `unread`, when it is a proxy that is still good; else a reason.
gwms_bosco_credentials_proxy() {
    local LC_ALL=C until from seconds
    gwms_bosco_credentials_file "$1" proxy || return 1
    grep -q -e '-----BEGIN CERTIFICATE-----' "$1" || { echo 'the proxy file has no certificate'; return 1; }
    grep -q -E -e '-----BEGIN ([A-Z]+ )?PRIVATE KEY-----' "$1" || { echo 'the proxy file has no key'; return 1; }
    command -v openssl >/dev/null 2>&1 || { echo unread; return 0; }
    until=$(openssl x509 -in "$1" -noout -enddate 2>/dev/null) || { echo 'the proxy file has no certificate'; return 1; }
    until=${until#notAfter=}
    from=$(openssl x509 -in "$1" -noout -startdate 2>/dev/null)
    from=${from#notBefore=}
    # A date(1) that reads no such date (busybox) gives nothing to compare.
    seconds=$(date -u -d "$from" +%s 2>/dev/null)
    [[ -z $seconds || $seconds -le $(($(date +%s) + GWMS_BOSCO_CREDENTIAL_SKEW_S)) ]] ||
        { echo "the proxy is good only from $from"; return 1; }
    openssl x509 -in "$1" -noout -checkend 0 >/dev/null 2>&1 || { echo "the proxy has expired, $until"; return 1; }
    echo "until $until"
}

# gwms_bosco_credentials_token FILE: 0 and `until SECONDS` or `without end`, when it is a JSON web token that is still
# good; else a reason. The signature is for who gets it to check.
gwms_bosco_credentials_token() {
    local LC_ALL=C token body until from
    gwms_bosco_credentials_file "$1" token || return 1
    token=$(tr -d '\000\r' <"$1" | sed -n 's/^[[:space:]]*\([^[:space:]].*\)$/\1/p' | head -n 1)
    token=${token%"${token##*[![:space:]]}"}
    [[ $token =~ ^[A-Za-z0-9_-]+\.([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]*$ ]] || { echo 'the token is no JSON web token'; return 1; }
    body=${BASH_REMATCH[1]}
    while (( ${#body} % 4 )); do body+='='; done
    body=$(printf '%s' "$body" | tr '_-' '/+' | base64 -d 2>/dev/null | tr -d '\000\n') ||
        { echo 'the token is no JSON web token'; return 1; }
    [[ $body == '{'*'}' ]] || { echo 'the token is no JSON web token'; return 1; }
    if [[ $body =~ \"nbf\"[[:space:]]*:[[:space:]]*([0-9]{1,15})[^0-9] ]]; then
        from=$((10#${BASH_REMATCH[1]}))
        [[ $from -le $(($(date +%s) + GWMS_BOSCO_CREDENTIAL_SKEW_S)) ]] || { echo "the token is good only from $from"; return 1; }
    fi
    [[ $body =~ \"exp\"[[:space:]]*:[[:space:]]*([0-9]{1,15})[^0-9] ]] || { echo 'without end'; return 0; }
    until=$((10#${BASH_REMATCH[1]}))
    [[ $until -gt $(date +%s) ]] || { echo "the token has expired at $until"; return 1; }
    echo "until $until"
}

# gwms_bosco_credentials_places PLACE: the folders to look at for node, cvmfs or shipped, one per line.
gwms_bosco_credentials_places() {
    local name
    case $1 in
        node)
            printf '%s\n' "$(gwms_bosco_config_get X509_CERT_DIR)" "${X509_CERT_DIR-}" /etc/grid-security/certificates
            ;;
        cvmfs)
            [[ $(gwms_bosco_state_read cvmfs.conf MODE none) != none ]] || return 0
            for name in $GWMS_BOSCO_CVMFS_CA; do printf '/cvmfs/%s\n' "$name"; done
            ;;
        shipped)
            # glideinWMS puts its prefix before what an entry's archive is unpacked in.
            printf '%s\n' "$(gwms_bosco_config_get ENTRY_GWMS_BOSCO_CA_DIR)" "$(gwms_bosco_config_get GWMS_BOSCO_CA_DIR)"
            ;;
    esac
}

# gwms_bosco_credentials_look PLACE FOLDER MODE POLICY: look at a CA directory wherever payloads will. MODE: the rung;
# POLICY: which payloads are given /cvmfs.
gwms_bosco_credentials_look() {
    local within=$GWMS_BOSCO_DIR/run-with-cvmfs outside
    case $1:$3:$4 in
        cvmfs:*) [[ -x $within ]] || within='' ;;
        # Its mounts are in a container of their own, and payloads with them: of the node they see what is bound.
        *:container:always) ;;
        *:container:on-request) outside=$(gwms_bosco_credentials_ca "$2") || { echo "$outside"; return 1; } ;;
        *) within='' ;;
    esac
    gwms_bosco_credentials_ca "$2" ${within:+"$within"}
}

# gwms_bosco_credentials_find ORDER [POLICY]: the first CA directory that is one for payloads, as
# `PLACE FOLDER certificates N crls STATE`; else 1. Reasons of those passed over go to the file credentials.why.
gwms_bosco_credentials_find() {
    local LC_ALL=C policy=${2:-always} mode place folder found seen=' '
    mode=$(gwms_bosco_state_read cvmfs.conf MODE none)
    : >"$GWMS_BOSCO_DIR/credentials.why"
    for place in ${1//,/ }; do
        if [[ $place == cvmfs && $policy != always && $mode != native && $mode != none ]]; then
            printf 'cvmfs: not every payload is given /cvmfs (%s); ' "$policy"
            continue
        fi
        while IFS= read -r folder; do
            [[ -n $folder && $seen != *" $folder "* ]] || continue
            seen+="$folder "
            if [[ ! $folder =~ ^/[A-Za-z0-9_./@=-]+$ || ${#folder} -gt 1024 ]]; then
                printf '%s: a path with odd characters: %s; ' "$place" "$(gwms_bosco_report_safe "$folder" 60)"
            elif found=$(gwms_bosco_credentials_look "$place" "$folder" "$mode" "$policy"); then
                echo "$place $folder $found" >&3
                return 0
            else
                printf '%s: %s; ' "$place" "$(gwms_bosco_report_safe "$found" 120)"
            fi
        done < <(gwms_bosco_credentials_places "$place")
    done 3>&1 >>"$GWMS_BOSCO_DIR/credentials.why"
    return 1
}
