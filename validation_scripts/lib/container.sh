# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Runs a command in the site's apptainer image file: checked once per pilot, tried before a payload meets it.

# Seconds: one start, of an image on a slow shared disk; reading the whole of it; unpacking it.
GWMS_BOSCO_CONTAINER_TRY_S=60
GWMS_BOSCO_CONTAINER_DIGEST_S=600
GWMS_BOSCO_CONTAINER_UNPACK_S=600

# gwms_bosco_container_tool: the program, apptainer before singularity; 1 when the node has neither.
gwms_bosco_container_tool() {
    local LC_ALL=C name path
    for name in apptainer singularity; do
        path=$(command -v "$name" 2>/dev/null)
        # The path becomes part of a program.
        [[ $path =~ ^/[A-Za-z0-9_./@=+-]+$ ]] && { echo "$path"; return 0; }
    done
    echo 'neither apptainer nor singularity is on this node' >&2
    return 1
}

# gwms_bosco_container_identity FILE: device:inode:mtime:size.
gwms_bosco_container_identity() {
    stat -L -c '%d:%i:%Y:%s' "$1" 2>/dev/null
}

# gwms_bosco_container_image FILE SHA256: 0 when FILE is an image file with that digest (empty: not asked for); else 1 and
# why on stderr. It is read once: image.conf remembers which file it was, and that is compared from then on.
gwms_bosco_container_image() {
    local image=$1 sha256=$2 identity output found
    # An unpacked image is a folder: it has no digest, and on CVMFS a site may not have it at all.
    [[ -f $image && -r $image ]] || { echo "there is no image file $image that can be read" >&2; return 1; }
    identity=$(gwms_bosco_container_identity "$image")
    [[ -n $identity ]] || { echo "cannot look at $image" >&2; return 1; }
    [[ -n $sha256 ]] || return 0
    if [[ $(gwms_bosco_state_read image.conf FILE) == "$image" &&
        $(gwms_bosco_state_read image.conf IDENTITY) == "$identity" ]]; then
        found=$(gwms_bosco_state_read image.conf SHA256)
    else
        output=$GWMS_BOSCO_DIR/image.sum
        if ! gwms_bosco_limit_run "$GWMS_BOSCO_CONTAINER_DIGEST_S" "$output" sha256sum "$image"; then
            echo "cannot read $image: $(gwms_bosco_report_safe "$(tail -n 1 "$output")" 120)" >&2
            return 1
        fi
        found=$(cut -c 1-64 "$output")
        rm -f "$output"
        gwms_bosco_conf_write "$GWMS_BOSCO_DIR/image.conf" FILE "$image" IDENTITY "$identity" SHA256 "$found"
    fi
    [[ $found == "$sha256" ]] || { echo "$image has the sha256 $found, and the site says $sha256" >&2; return 1; }
}

# gwms_bosco_container_program TOOL IMAGE SHA256 IDENTITY FLAGS CVMFS SITECONF: the text of container-exec. FLAGS is empty
# or --userns; CVMFS is the folder that holds the repositories, empty for none. All values are of characters that mean
# nothing to a shell, which the callers have checked.
gwms_bosco_container_program() {
    printf "#!/bin/sh\ntool='%s' image='%s' sha256='%s' identity='%s' userns='%s' cvmfs='%s' siteconf='%s'\n" "$@"
    cat <<'PROGRAM'
# Written by container_setup. Runs a command ($@) in the site's image, with what a payload looks for at its own path.
here=${0%/*}
fail() {
    printf '%s\n' "BOSCO-CONTAINER-07 $1" >&2
    exit 125
}
if [ "$(stat -L -c %d:%i:%Y:%s "$image" 2>/dev/null)" != "$identity" ]; then
    # Another file than the one that was checked, or only its date is new.
    [ -n "$sha256" ] && [ "$(sha256sum <"$image" 2>/dev/null | cut -c 1-64)" = "$sha256" ] ||
        fail "$image is not the file any more that this pilot has checked"
fi
ca=
if [ -r "$here/credentials.conf" ]; then
    while IFS='=' read -r key value; do
        [ "$key" != CA_DIR ] || ca=$value
    done <"$here/credentials.conf"
fi
# One on CVMFS is bound from where the repositories are here. A payload without /cvmfs has none, which must not stop it.
ca_here=$ca
case $ca in
    /cvmfs/*) ca_here=${cvmfs:-/cvmfs}${ca#/cvmfs} ;;
esac
[ -d "$ca_here" ] || ca=
work=$(pwd)
home=${HOME-}
home_bound=no
case $home in
    '' | / | *[:,\"]*) ;;
    *) [ ! -d "$home" ] || home_bound=yes ;;
esac
# Without a folder to bind, the tool sets HOME to that of the account.
if [ "$home_bound" = no ] && [ -z "${HOME+set}" ]; then
    set -- /bin/sh -c 'unset HOME; exec "$@"' sh "$@"
elif [ "$home_bound" = no ]; then
    set -- /bin/sh -c 'HOME=$0; exec "$@"' "$home" "$@"
fi
set -- "$image" "$@"
# At the path they have here.
for place in "$work" "${_CONDOR_SCRATCH_DIR:-}" "${TMPDIR:-}" "$siteconf" "$ca" "${X509_CERT_DIR:-}" \
    "${X509_USER_PROXY:-}" "${BEARER_TOKEN_FILE:-}"; do
    case $place in
        '' | / | /tmp | /dev/shm | /cvmfs*) continue ;;
        *[:,\"]*) fail "a path with a colon, comma or quote cannot be bound: $place" ;;
    esac
    [ ! -e "$place" ] || set -- --bind "$place" "$@"
done
# Where tools look when no variable tells them.
[ -z "$ca" ] || [ "$ca" = /etc/grid-security/certificates ] || set -- --bind "$ca_here:/etc/grid-security/certificates:ro" "$@"
[ -z "$siteconf" ] || set -- --bind "$siteconf:/etc/cvmfs/SITECONF:ro" "$@"
if [ -n "$cvmfs" ] && [ -d "$cvmfs" ]; then
    set -- --bind "$cvmfs:/cvmfs" "$@"
fi
if [ "$home_bound" = yes ]; then
    set -- --home "$home" "$@"
else
    set -- --no-home "$@"
fi
set -- --pwd "$work" "$@"
# The node's libraries do not fit the image's programs; its program folders come after the image's own.
unset LD_PRELOAD LD_LIBRARY_PATH
[ -z "${PATH:-}" ] || export APPTAINERENV_APPEND_PATH="$PATH" SINGULARITYENV_APPEND_PATH="$PATH"
[ -z "$userns" ] || set -- "$userns" "$@"
exec "$tool" --silent exec "$@"
PROGRAM
}

# gwms_bosco_container_try TEXT WAY...: install TEXT as container-exec and run true in it, WAY before it
# (run-with-cvmfs, or nothing). 1 and a reason on stdout.
gwms_bosco_container_try() {
    local output=$GWMS_BOSCO_DIR/container.log rc
    gwms_bosco_state_program container-exec <<<"$1" || { echo "cannot write into $GWMS_BOSCO_DIR"; return 1; }
    shift
    # Nothing but a word written inside proves that a command has run there.
    gwms_bosco_limit_run "$GWMS_BOSCO_CONTAINER_TRY_S" "$output" \
        "$@" "$GWMS_BOSCO_DIR/container-exec" /bin/sh -c 'echo gwms-bosco-inside'
    rc=$?
    grep -qx gwms-bosco-inside "$output" && [[ $rc == 0 ]] && return 0
    case $rc in
        124) echo "no answer in $GWMS_BOSCO_CONTAINER_TRY_S s" ;;
        *) echo "$(gwms_bosco_report_safe "$(gwms_bosco_container_why "$output")" 160) (exit code $rc)" ;;
    esac
    return 1
}

# The line that says most, without apptainer's colours and labels.
gwms_bosco_container_why() {
    local text
    text=$(sed -e 's/\x1b\[[0-9;]*m//g' "$1" | grep -E 'FATAL|ERROR|BOSCO-|fail|denied|cannot|not permitted' | tail -n 1)
    text=${text:-$(tail -n 1 "$1")}
    printf '%s' "$text" | sed -e 's/^\(FATAL\|ERROR\|WARNING\|INFO\):* *//'
}

# gwms_bosco_container_unpack TOOL IMAGE: make the image a folder of this pilot, for nodes that cannot mount it.
gwms_bosco_container_unpack() {
    local output=$GWMS_BOSCO_DIR/container.log
    rm -rf "$GWMS_BOSCO_DIR/image"
    gwms_bosco_limit_run "$GWMS_BOSCO_CONTAINER_UNPACK_S" "$output" \
        env "APPTAINER_TMPDIR=$GWMS_BOSCO_DIR" "SINGULARITY_TMPDIR=$GWMS_BOSCO_DIR" \
        "$1" build --sandbox "$GWMS_BOSCO_DIR/image" "$2" && return 0
    gwms_bosco_report_safe "$(gwms_bosco_container_why "$output")" 160
    rm -rf "$GWMS_BOSCO_DIR/image"
    return 1
}

# gwms_bosco_container_choose TOOL IMAGE SHA256 CVMFS SITECONF WAY...: try the ways of this node in turn; the first that
# works stays as container-exec, and its name is printed. Reasons of those before it go to the file container.why.
gwms_bosco_container_choose() {
    local tool=$1 image=$2 sha256=$3 cvmfs=$4 siteconf=$5 identity way flags reason why=''
    shift 5
    identity=$(gwms_bosco_container_identity "$image")
    for way in mounted userns unpacked; do
        flags=''
        [[ $way == mounted ]] || flags=--userns
        if [[ $way == unpacked ]]; then
            reason=$(gwms_bosco_container_unpack "$tool" "$image") || { why+="$way: $reason; "; continue; }
            image=$GWMS_BOSCO_DIR/image sha256=''
            identity=$(gwms_bosco_container_identity "$image")
        fi
        if reason=$(gwms_bosco_container_try "$(gwms_bosco_container_program \
            "$tool" "$image" "$sha256" "$identity" "$flags" "$cvmfs" "$siteconf")" "$@"); then
            printf '%s' "$why" >"$GWMS_BOSCO_DIR/container.why"
            echo "$way"
            return 0
        fi
        why+="$way: $reason; "
    done
    rm -f "$GWMS_BOSCO_DIR/container-exec"
    printf '%s' "$why" >"$GWMS_BOSCO_DIR/container.why"
    return 1
}

# gwms_bosco_container_inside IMAGE: 0 when this process runs in that image already.
gwms_bosco_container_inside() {
    [[ ${APPTAINER_CONTAINER:-${SINGULARITY_CONTAINER:-}} == "$1" ]]
}
