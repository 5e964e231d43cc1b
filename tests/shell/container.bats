#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0
# With stand-ins for apptainer; tests/pilot/test_container.py has the real one.

load node

# A stand-in apptainer that writes its arguments down and does what TOOL says: run, fail or hang.
setup() {
    pilot_folder
    load_libraries container
    state_folder
    mkdir bin
    cat >bin/apptainer <<'TOOL'
#!/bin/bash
here=${0%/*}
printf '%s\n' "$@" >"$here/seen"
case $(cat "$here/does") in
    fail*) echo "FATAL:   $(cut -d' ' -f2- "$here/does")" >&2; exit 255 ;;
    hang) exec sleep 600 ;;
    unpacked) [[ " $* " == *" build "* || " $* " == *"/gwms_bosco/image "* ]] || { echo 'FATAL:   no fuse' >&2; exit 255; } ;;
    silent) exit 0 ;;
esac
[[ " $* " != *" build "* ]] || { mkdir "${@: -2:1}"; exit; }
while [[ $1 != "$(cat "$here/image")" && $1 != */gwms_bosco/image ]]; do shift; done
shift
exec "$@"
TOOL
    chmod +x bin/apptainer
    echo run >bin/does
    echo image >site.sif
    printf '%s' "$PWD/site.sif" >bin/image
    image=$PWD/site.sif
    sha256=$(sha256sum <site.sif | cut -c 1-64)
    PATH=$PWD/bin:$PATH
    GWMS_BOSCO_CONTAINER_TRY_S=2
}

choose() {
    gwms_bosco_container_choose "$PWD/bin/apptainer" "$image" "$sha256" "${1-}" "${2-}"
}

@test "container_tool takes apptainer, then singularity, else says that there is neither" {
    [ "$(gwms_bosco_container_tool)" = "$PWD/bin/apptainer" ]
    mv bin/apptainer bin/singularity
    [ "$(PATH=$PWD/bin gwms_bosco_container_tool)" = "$PWD/bin/singularity" ]
    run env PATH=/nowhere /bin/bash -c ". '$LIB/container.sh'; gwms_bosco_container_tool"
    [ "$status" = 1 ]
    [[ $output == neither* ]]
}

@test "container_identity changes with content or date" {
    first=$(gwms_bosco_container_identity site.sif)
    [[ $first =~ ^[0-9]+:[0-9]+:6:[0-9_:.-]+$ ]]
    [ "$first" = "$(TZ=Asia/Tokyo gwms_bosco_container_identity site.sif)" ]
    touch -d @1 site.sif
    [ "$first" != "$(gwms_bosco_container_identity site.sif)" ]
    # Of a folder, which it is and no more.
    mkdir folder
    first=$(gwms_bosco_container_identity folder)
    touch -d @1 folder
    [ "$first" = "$(gwms_bosco_container_identity folder)" ]
    [ -z "$(gwms_bosco_container_identity none)" ]
}

@test "container_image accepts the right digest and refuses another, a folder, and nothing" {
    gwms_bosco_container_image "$image" "$sha256"
    gwms_bosco_container_image "$image" ''
    run gwms_bosco_container_image "$image" "${sha256//[0-9]/0}"
    [ "$status" = 1 ]
    [[ $output == *"has the sha256 $sha256"* ]]
    run gwms_bosco_container_image "$PWD/bin" ''
    [ "$status" = 1 ]
    run gwms_bosco_container_image "$PWD/none" ''
    [ "$status" = 1 ]
    [[ $output == *"no image file"* ]]
}

@test "container_image reads the file once, and again when it changed" {
    gwms_bosco_container_image "$image" "$sha256"
    # A digest that is remembered and not computed again.
    sed -i 's/^SHA256=.*/SHA256=remembered/' gwms_bosco/image.conf
    run gwms_bosco_container_image "$image" "$sha256"
    [ "$status" = 1 ]
    touch -d @1 site.sif
    gwms_bosco_container_image "$image" "$sha256"
}

@test "container_choose takes the first way that works and leaves container-exec" {
    [ "$(choose)" = mounted ]
    [ -z "$(cat gwms_bosco/container.why)" ]
    run gwms_bosco/container-exec sh -c 'exit 42'
    [ "$status" = 42 ]
}

@test "container_choose unpacks when nothing can be mounted, and keeps the reasons" {
    echo unpacked >bin/does
    [ "$(choose)" = unpacked ]
    [ "$(cat gwms_bosco/container.why)" = 'mounted: no fuse (exit code 255); userns: no fuse (exit code 255); ' ]
    run gwms_bosco/container-exec sh -c 'exit 42'
    [ "$status" = 42 ]
}

@test "container_choose fails with all reasons, and leaves no container-exec" {
    echo 'fail bad $(touch x) `image`' >bin/does
    run choose
    [ "$status" = 1 ]
    [ ! -e gwms_bosco/container-exec ]
    [ ! -e x ]
    [ "$(cat gwms_bosco/container.why)" = \
        'mounted: bad (touch x) image (exit code 255); userns: bad (touch x) image (exit code 255); unpacked: bad (touch x) image; ' ]
}

@test "container_try ends a tool that hangs, and is not deceived by exit code 0" {
    text=$(gwms_bosco_container_program "$PWD/bin/apptainer" "$image" '' "$(gwms_bosco_container_identity "$image")" '' '' '')
    echo hang >bin/does
    run gwms_bosco_container_try "$text"
    [ "$status" = 1 ]
    [ "$output" = 'no answer in 2 s' ]
    echo silent >bin/does
    run gwms_bosco_container_try "$text"
    [ "$status" = 1 ]
    echo run >bin/does
    gwms_bosco_container_try "$text"
}

@test "container_program binds what payloads look for, each at its path" {
    mkdir ca siteconf work repositories
    touch proxy token
    echo "CA_DIR=$PWD/ca" >gwms_bosco/credentials.conf
    choose "$PWD/repositories" "$PWD/siteconf"
    glide=$PWD
    cd work
    X509_USER_PROXY=$glide/proxy BEARER_TOKEN_FILE=$glide/token HOME=$glide TMPDIR=$glide/gone "$glide/gwms_bosco/container-exec" true
    seen=$(tr '\n' ' ' <"$glide/bin/seen")
    for place in "$glide/work" "$glide/siteconf" "$glide/ca" "$glide/proxy" "$glide/token" "$glide/repositories:/cvmfs" \
        "$glide/siteconf:/etc/cvmfs/SITECONF:ro" "$glide/ca:/etc/grid-security/certificates:ro"; do
        [[ $seen == *"--bind $place "* ]] || { echo "no $place in $seen"; return 1; }
    done
    [[ $seen == *"--home $glide "* && $seen == *"--pwd $glide/work "* && $seen != *gone* ]]
}

@test "container_program binds a CA directory on CVMFS from where the repositories are, and none that is not there" {
    mkdir -p repositories/grid.cern.ch/ca
    echo "CA_DIR=/cvmfs/grid.cern.ch/ca" >gwms_bosco/credentials.conf
    choose "$PWD/repositories" ''
    gwms_bosco/container-exec true
    grep -qx "$PWD/repositories/grid.cern.ch/ca:/etc/grid-security/certificates:ro" bin/seen
    rm -r repositories/grid.cern.ch
    gwms_bosco/container-exec true
    run grep certificates bin/seen
    [ "$status" = 1 ]
}

@test "container_program binds no /cvmfs, and no CA directory there, for a payload that is given none" {
    mkdir -p repositories/grid.cern.ch/ca
    echo "CA_DIR=/cvmfs/grid.cern.ch/ca" >gwms_bosco/credentials.conf
    choose "$PWD/repositories" ''
    [ "$(gwms_bosco/container-exec --without-cvmfs printf '<%s>' 'a  b' --without-cvmfs)" = '<a  b><--without-cvmfs>' ]
    run grep repositories bin/seen
    [ "$status" = 1 ]
}

@test "container_program and container_try need no room for their text but in the state folder" {
    # As bash before 5.1 does: a here-document is a file, which a full disk does not take.
    BASH_COMPAT=50
    without_room() { (ulimit -f 0 && trap '' XFSZ && gwms_bosco_container_program /t /i '' 1 '' '' ''); }
    [ "$(without_room)" = "$(gwms_bosco_container_program /t /i '' 1 '' '' '')" ]
    [[ $(without_room) == *$'\nexec "$tool"'* ]]
    # Where bash puts them.
    [ "$(TMPDIR=/nowhere choose)" = mounted ]
}

@test "container_rung_shell remembers what a payload is started by in the container that is the rung" {
    printf '#!/bin/sh\nexec "$@"\n' | gwms_bosco_state_program run-with-cvmfs
    gwms_bosco_container_rung_shell
    [ "$(cat gwms_bosco/inside-shell)" = '/bin/bash -p -c' ]
    printf '#!/bin/sh\necho without a bash\n' | gwms_bosco_state_program run-with-cvmfs
    gwms_bosco_container_rung_shell
    [ ! -e gwms_bosco/inside-shell ]
}

@test "container_program reads an image with a new date once, and a changed one never runs" {
    choose
    touch -d @1 site.sif
    gwms_bosco/container-exec true
    printf '#!/bin/sh\necho read >>%s/read\nexec %s\n' "$PWD" "$(command -v sha256sum)" >bin/sha256sum
    chmod +x bin/sha256sum
    gwms_bosco/container-exec true
    [ ! -e read ]
    touch -d @2 site.sif
    gwms_bosco/container-exec true
    [ -e read ]
    rm site.sif
    mkdir site.sif
    run gwms_bosco/container-exec true
    [ "$status" = 125 ]
    # Nor does one without a digest.
    sha256=''
    rmdir site.sif
    echo image >site.sif
    choose
    echo other >site.sif
    run gwms_bosco/container-exec true
    [ "$status" = 125 ]
}

@test "container_program leaves a relative path, one that is not there, and /cvmfs alone, and nothing that only begins like it" {
    choose
    mkdir proxies
    touch proxies/x
    TMPDIR=/a:b X509_USER_PROXY=proxies/x BEARER_TOKEN_FILE=/cvmfs/x gwms_bosco/container-exec true
    run grep -E '^(/a:b|proxies/x|/cvmfs)' bin/seen
    [ "$status" = 1 ]
}

@test "what is done before a payload inside is done by bash where the image has one" {
    choose
    [ "$(cat gwms_bosco/inside-shell)" = '/bin/bash -p -c' ]
    odd='() {  echo hello'$'\n''}'
    [ "$(env -u HOME "a.b=1" "BASH_FUNC_f%%=$odd" BASH_ENV="$PWD/none" bash gwms_bosco/container-exec env | grep -cE '^(a.b=1|BASH_FUNC_f%%=.*hello|BASH_FUNC_f%%=.*)$')" = 2 ]
    # Of an image without one nothing is left of the last.
    : >log
    rm gwms_bosco/inside-shell
    gwms_bosco_container_shell log
    [ ! -e gwms_bosco/inside-shell ]
}

@test "container_program keeps an unset HOME unset, and one without a folder as it is" {
    choose
    [ "$(env -u HOME gwms_bosco/container-exec sh -c 'echo "${HOME-unset}"')" = unset ]
    [ "$(HOME='/no where' gwms_bosco/container-exec sh -c 'echo "$HOME"')" = '/no where' ]
    grep -qx -- --no-home bin/seen
}

@test "container_program refuses a path that would be read as two" {
    choose
    mkdir 'a:b'
    cd 'a:b'
    run ../gwms_bosco/container-exec true
    [ "$status" = 125 ]
    [[ $output == *BOSCO-CONTAINER-07* ]]
}

@test "container_program runs in dash and busybox sh, and is clean" {
    choose
    for shell in dash 'busybox sh'; do
        # shellcheck disable=SC2086
        run $shell "$PWD/gwms_bosco/container-exec" sh -c 'printf "<%s>" "$@"; exit 7' sh 'a  b' ''
        [ "$status" = 7 ]
        [ "$output" = '<a  b><>' ]
    done
    run checkbashisms -p gwms_bosco/container-exec
    [ -z "$output" ]
    shellcheck -e SC2016,SC2015 gwms_bosco/container-exec
}

@test "container_inside tells whether this is that image" {
    APPTAINER_CONTAINER=/a.sif gwms_bosco_container_inside /a.sif
    SINGULARITY_CONTAINER=/a.sif gwms_bosco_container_inside /a.sif
    run env APPTAINER_CONTAINER=/b.sif bash -c ". '$LIB/container.sh'; gwms_bosco_container_inside /a.sif"
    [ "$status" = 1 ]
}

@test "container_why gives the last complaint without label and colour" {
    printf 'INFO:    x\n\033[31mFATAL:  \033[0m it broke\nbye\n' >log
    [ "$(gwms_bosco_container_why log)" = 'it broke' ]
    echo 'only this' >log
    [ "$(gwms_bosco_container_why log)" = 'only this' ]
}

@test "container_unpack gives the reason when it cannot" {
    echo 'fail no space' >bin/does
    run gwms_bosco_container_unpack "$PWD/bin/apptainer" "$image"
    [ "$status" = 1 ]
    [ "$output" = 'no space' ]
}
