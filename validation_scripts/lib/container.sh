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

# gwms_bosco_container_identity IMAGE: of a file device:inode:size:mtime:ctime; who writes into it cannot set the last one.
# Of one that this pilot has unpacked only which it is, as starting it changes its dates.
gwms_bosco_container_identity() {
    if [[ -d $1 ]]; then stat -c 'folder:%d:%i' "$1"; else TZ=UTC0 stat -L -c '%d:%i:%s:%y:%z' "$1"; fi 2>/dev/null | tr ' +' '__'
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
    # No here-document: older bash keeps those in a file, and on a full disk half a program would be left.
    # shellcheck disable=SC2016 # variables of the program
    printf '%s\n' '# Written by container_setup. Runs a command ($@) in the image of the site, with what a payload looks for at its own path.
# With --without-cvmfs before it, the command finds no /cvmfs there.
here=${0%/*}
[ "$1" != --without-cvmfs ] || { shift; cvmfs=; }
fail() {
    printf "%s\n" "BOSCO-CONTAINER-07 $1" >&2
    exit 125
}
case $identity in
    folder:*) now=$(stat -c folder:%d:%i "$image" 2>/dev/null) ;;
    *) now=$(TZ=UTC0 stat -L -c "%d:%i:%s:%y:%z" "$image" 2>/dev/null | tr " +" "__") ;;
esac
if [ "$now" != "$identity" ] && [ "$now" != "$(cat "$here/image.again" 2>/dev/null)" ]; then
    # Another file than the one that was checked, or only its date is new.
    [ -n "$sha256" ] && [ "$(sha256sum <"$image" 2>/dev/null | cut -c 1-64)" = "$sha256" ] ||
        fail "$image is not the file any more that this pilot has checked"
    # The next payload need not read it again. By rename, as payloads of other slots do the same.
    { printf "%s\n" "$now" >"$here/image.again.$$" && mv -f "$here/image.again.$$" "$here/image.again"; } 2>/dev/null
fi
ca=
if [ -r "$here/credentials.conf" ]; then
    while IFS="=" read -r key value; do
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
# Where the wrapper of the batch job has left a folder for it, that one is shown at HOME, and of the own one of the node only
# what is bound.
private=
[ ! -d "$here/home" ] || private=$here/home
# shows_home PATH: 0 when a bind of it would show that of the node.
shows_home() {
    case $home/ in "$1"/*) return 0 ;; esac
    case $(readlink -f "$home")/ in "$(readlink -f "$1")"/*) return 0 ;; esac
    return 1
}
# point PATH: what is bound below HOME needs something to be bound on.
point() {
    case $1 in "$home"/*) ;; *) return 0 ;; esac
    if [ -d "$1" ]; then
        mkdir -p "$private/${1#"$home"/}"
    else
        mkdir -p "$(dirname "$private/${1#"$home"/}")" && : >>"$private/${1#"$home"/}"
    fi
}
case $home in
    "" | / | *[:,\"]*) ;;
    *) [ ! -d "$home" ] || home_bound=yes ;;
esac
shell="/bin/sh -c"
[ ! -e "$here/inside-shell" ] || read -r shell <"$here/inside-shell"
# Without a folder to bind, the tool sets HOME to that of the account.
# shellcheck disable=SC2086 # words
if [ "$home_bound" = no ] && [ -z "${HOME+set}" ]; then
    set -- $shell "unset HOME; exec \"\$@\"" sh "$@"
elif [ "$home_bound" = no ]; then
    set -- $shell "HOME=\$0; exec \"\$@\"" "$home" "$@"
fi
set -- "$image" "$@"
# At the path they have here.
for place in "$work" "${_CONDOR_SCRATCH_DIR:-}" "${TMPDIR:-}" "$siteconf" "$ca" "${X509_CERT_DIR:-}" \
    "${X509_USER_PROXY:-}" "${BEARER_TOKEN_FILE:-}"; do
    case $place in
        # The last one is bound below, so that nothing there can be changed.
        / | /tmp | /dev/shm | /cvmfs | /cvmfs/* | /etc/cvmfs/SITECONF) continue ;;
        # One that is relative is below the current folder.
        /*) [ -e "$place" ] || continue ;;
        *) continue ;;
    esac
    if [ -n "$private" ]; then
        ! shows_home "$place" || continue
        point "$place"
    fi
    case $place in
        *[:,\"]*) fail "a path with a colon, comma or quote cannot be bound: $place" ;;
    esac
    set -- --bind "$place" "$@"
done
# What the wrapper of the batch job has for the pilot, at the same path or, behind a colon, at another.
if [ -r "$here/binds" ]; then
    while IFS= read -r place; do
        [ -z "$private" ] || point "${place%%:*}"
        set -- --bind "$place" "$@"
    done <"$here/binds"
fi
# Where tools look when no variable tells them.
[ -z "$ca" ] || [ "$ca" = /etc/grid-security/certificates ] || set -- --bind "$ca_here:/etc/grid-security/certificates:ro" "$@"
[ -z "$siteconf" ] || set -- --bind "$siteconf:/etc/cvmfs/SITECONF:ro" "$@"
if [ -n "$cvmfs" ] && [ -d "$cvmfs" ]; then
    set -- --bind "$cvmfs:/cvmfs" "$@"
fi
if [ "$home_bound" = yes ]; then
    case ${private:+$home} in
        # The tool shows /tmp of the node on top of it.
        /tmp/* | /var/tmp/*) set -- --bind "$private:$home" "$@" ;;
    esac
    set -- --home "${private:+$private:}$home" "$@"
else
    set -- --no-home "$@"
fi
set -- --pwd "$work" "$@"
# Libraries of the node do not fit programs of the image; its program folders come after those of the image.
unset LD_PRELOAD LD_LIBRARY_PATH
[ -z "${PATH:-}" ] || export APPTAINERENV_APPEND_PATH="$PATH" SINGULARITYENV_APPEND_PATH="$PATH"
[ -z "$userns" ] || set -- "$userns" "$@"
# The tool shows the folder it is started in, of itself.
[ -z "$private" ] || cd /
exec "$tool" --silent exec "$@"'
}

# gwms_bosco_container_try TEXT WAY...: install TEXT as container-exec and run true in it, WAY before it
# (run-with-cvmfs, or nothing). 1 and a reason on stdout.
gwms_bosco_container_try() {
    local output=$GWMS_BOSCO_DIR/container.log rc
    printf '%s\n' "$1" | gwms_bosco_state_program container-exec || { echo "cannot write into $GWMS_BOSCO_DIR"; return 1; }
    shift
    # Nothing but a word written inside proves that a command has run there.
    gwms_bosco_limit_run "$GWMS_BOSCO_CONTAINER_TRY_S" "$output" "$@" "$GWMS_BOSCO_DIR/container-exec" \
        /bin/sh -c 'echo gwms-bosco-inside; [ ! -x /bin/bash ] || /bin/bash -p -c "echo gwms-bosco-bash" || :'
    rc=$?
    if grep -qx gwms-bosco-inside "$output" && [[ $rc == 0 ]]; then
        gwms_bosco_container_shell "$output"
        return 0
    fi
    case $rc in
        124) echo "no answer in $GWMS_BOSCO_CONTAINER_TRY_S s" ;;
        *) echo "$(gwms_bosco_report_safe "$(gwms_bosco_container_why "$output")" 160) (exit code $rc)" ;;
    esac
    return 1
}

# gwms_bosco_container_shell OUTPUT: remember what to start a payload by inside, where something must be done before it.
# dash and busybox sh drop exported functions and variables with a dot in their names; bash in this mode reads none of
# them and hands all on.
gwms_bosco_container_shell() {
    if grep -qx gwms-bosco-bash "$1"; then
        echo '/bin/bash -p -c' >"$GWMS_BOSCO_DIR/inside-shell"
    else
        rm -f "$GWMS_BOSCO_DIR/inside-shell"
    fi
}

# The same of the container that is the rung to /cvmfs.
gwms_bosco_container_rung_shell() {
    gwms_bosco_limit_run "$GWMS_BOSCO_CONTAINER_TRY_S" "$GWMS_BOSCO_DIR/container.log" "$GWMS_BOSCO_DIR/run-with-cvmfs" \
        /bin/sh -c '[ ! -x /bin/bash ] || /bin/bash -p -c "echo gwms-bosco-bash"'
    gwms_bosco_container_shell "$GWMS_BOSCO_DIR/container.log"
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
