# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Is a repository really there? A mounted-looking directory proves nothing: a dead mount keeps its directory, and parrot
# and singcvmfs end with the payload's exit code when the mount failed. So a real object is asked for.

# gwms_bosco_cvmfs_read_program: the POSIX sh program that answers for one repository; $1 = its directory, $2 = its name.
# Exit 0 when it can be read, else one line on stdout. It is text, not a function, because it also runs inside a
# container or under parrot.
gwms_bosco_cvmfs_read_program() {
    # No here-document: older bash keeps those in a file, and on a full disk nothing would be asked.
    # shellcheck disable=SC2016 # variables of the program
    printf '%s\n' 'd=$1 r=$2
n=$(getfattr --absolute-names --only-values -n user.fqrn "$d" 2>/dev/null)
[ "$n" = "$r" ] && exit 0
# The first byte of the first file: through the client, the cache and the network.
first() {
    for f; do
        [ -f "$f" ] && [ -s "$f" ] || continue
        e=$(head -c 1 "$f" 2>&1 >/dev/null) && exit 0
        echo "$e"
        exit 1
    done
}
# Folder by folder, the upper ones first, and not many: each may be a catalogue that is not in the cache.
first "$d/.cvmfsdirtab" "$d"/*
n=0
for a in "$d"/*/; do
    n=$((n + 1))
    [ $n -le 16 ] || break
    first "$a"*
done
n=0
for a in "$d"/*/; do
    for b in "$a"*/; do
        n=$((n + 1))
        [ $n -le 16 ] || break 2
        first "$b"*
    done
done
# Only for the reason: a young ls calls statx, which a tracer of paths may not know.
l=$(ls -A "$d" 2>&1) || { echo "$l" | tail -n 1; exit 1; }
set -- $l
[ $# -gt 0 ] || { echo "$d is empty"; exit 1; }
echo "no file to read in the upper folders of $d"
exit 1'
}

# gwms_bosco_cvmfs_probe SECONDS ROOT REPOSITORIES WAY...: read each repository (comma list) below ROOT, by running the
# program with WAY before it (run-with-cvmfs, a container, parrot; nothing for the node itself). 1 and a reason on stdout
# at the first that fails. All together get SECONDS; of none, none can be read.
gwms_bosco_cvmfs_probe() {
    local seconds=$1 root=$2 repositories=$3 output repository='no repository' rc=1 deadline
    shift 3
    output=$(mktemp "${GWMS_BOSCO_DIR:-${TMPDIR:-/tmp}}/probe.XXXXXX") || { echo 'cannot make a temporary file'; return 1; }
    deadline=$((SECONDS + seconds))
    for repository in ${repositories//,/ }; do
        rc=124
        [[ $seconds -gt 0 ]] || break
        gwms_bosco_limit_run "$seconds" "$output" \
            "$@" /bin/sh -c "$(gwms_bosco_cvmfs_read_program)" probe "$root/$repository" "$repository"
        rc=$?
        [[ $rc == 0 ]] || break
        seconds=$((deadline - SECONDS))
    done
    case $rc in
        0) ;;
        124) echo "$repository: no answer in time" ;;
        *) echo "$repository: $(gwms_bosco_report_safe "$(tail -n 1 "$output" 2>/dev/null)" 120)" ;;
    esac
    rm -f "$output"
    [[ $rc == 0 ]]
}
