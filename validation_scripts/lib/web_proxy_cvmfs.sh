# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Tell a CVMFS client that already runs which proxies to use. It can be told by its socket, which lies in its cache.

# gwms_bosco_web_proxy_tell LIST: 0 when CVMFS uses LIST from now on; else 1 and why not on stdout.
# Source: cvmfs/cvmfs talk.cc, `proxy set`; cvmfs_talk.cc, InstanceInfo::DeterminePaths.
gwms_bosco_web_proxy_tell() {
    local mode
    mode=$(gwms_bosco_state_read cvmfs.conf MODE none)
    if [[ -n $(gwms_bosco_config_get GWMS_BOSCO_CVMFS_PROXY) ]]; then
        echo 'the site file sets another list for CVMFS'
        return 1
    fi
    case $mode in
        userns | fusermount | mountrepo | container) gwms_bosco_web_proxy_talk "$1" ;;
        parrot) gwms_bosco_web_proxy_parrot "$1" ;;
        native) echo 'the CVMFS of the node has a list of its own'; return 1 ;;
        *) echo 'this pilot has no CVMFS'; return 1 ;;
    esac
}

gwms_bosco_web_proxy_talk() {
    local place=$GWMS_BOSCO_DIR/cvmfs cache repository socket output program
    program=$place/dist/usr/bin/cvmfs_talk
    [[ -x $program ]] || program=$(command -v cvmfs_talk) || { echo 'no cvmfs_talk is in the distribution'; return 1; }
    cache=$(gwms_bosco_state_read cvmfs.conf CACHE)
    repository=$(gwms_bosco_state_read cvmfs.conf REPOSITORIES)
    output=$(mktemp "$GWMS_BOSCO_DIR/talk.XXXXXX") || { echo 'cannot make a temporary file'; return 1; }
    for repository in $(gwms_bosco_place_config_repository "$place") ${repository//,/ }; do
        socket=$cache/shared/cvmfs_io.$repository
        [[ -S $socket ]] || socket=$cache/$repository/cvmfs_io.$repository
        # Without a shell's or user's settings; its libraries lie beside it.
        if [[ ! -S $socket ]]; then
            echo "$repository has no socket in the cache"
        elif ! gwms_bosco_limit_run 2 "$output" env "LD_LIBRARY_PATH=$place/dist/usr/lib64:$place/dist/usr/lib" \
            "$program" -p "$socket" proxy set "$1"; then
            echo "$repository: $(gwms_bosco_report_safe "$(tail -n 1 "$output")" 80)"
        elif ! grep -qx OK "$output"; then
            echo "$repository answers $(gwms_bosco_report_safe "$(tail -n 1 "$output")" 80)"
        else
            continue
        fi
        rm -f "$output"
        return 1
    done
    rm -f "$output"
}

# Each payload starts a parrot of its own, with the words in the file `prefix`.
gwms_bosco_web_proxy_parrot() {
    local file=$GWMS_BOSCO_DIR/prefix
    awk -v "list=$1" 'last == "-p" { $0 = list } { print; last = $0 }' "$file" >"$file.new" 2>/dev/null &&
        [[ -s $file.new ]] && mv -f "$file.new" "$file" && return 0
    echo "cannot write the words for parrot"
    return 1
}
