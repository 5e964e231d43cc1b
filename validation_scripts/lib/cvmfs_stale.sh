# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a pilot that was killed leaves on the node: FUSE mounts, their processes, caches. Each pilot keeps a record in a
# folder of its user; the next pilot of the same user takes down what belongs to a dead one, and nothing else.

# gwms_bosco_stale_folder: the user's folder for records, made when missing; 1 where there is none that is only ours.
gwms_bosco_stale_folder() {
    local parent folder
    for parent in "${GWMS_BOSCO_RECORDS:-/tmp}" /var/tmp /dev/shm; do
        folder=$parent/gwms-bosco-$(id -u)
        (umask 077 && mkdir "$folder") 2>/dev/null
        # Anyone may make names in /tmp: a link or a stranger's folder is not used.
        if [[ -d $folder && ! -L $folder && -O $folder && $(stat -c %a "$folder") =~ ^[0-7]?700$ && -w $folder ]]; then
            echo "$folder"
            return 0
        fi
    done
    return 1
}

# Which world a process number belongs to: the same number means something else on another node (shared file system), in
# another container and after a restart.
gwms_bosco_stale_world() {
    printf '%s:%s:%s' "$(uname -n | tr -cd 'A-Za-z0-9._-')" \
        "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)" "$(readlink /proc/self/ns/pid | tr -cd 0-9)"
}

# gwms_bosco_stale_record FOLDER NAME PILOT PLACE CACHE: write the record of a pilot; print its path.
gwms_bosco_stale_record() {
    gwms_bosco_conf_write "$1/$2" WORLD "$(gwms_bosco_stale_world)" PILOT "$3" START "$(gwms_bosco_limit_start "$3")" \
        PLACE "$4" CACHE "$5" || return 1
    echo "$1/$2"
}

# gwms_bosco_stale_dead RECORD: 0 when its pilot is surely gone.
gwms_bosco_stale_dead() {
    local world here
    world=$(gwms_bosco_conf_read "$1" WORLD) || return 1
    here=$(gwms_bosco_stale_world)
    if [[ $world == "$here" ]]; then
        ! gwms_bosco_limit_alive "$(gwms_bosco_conf_read "$1" PILOT)" "$(gwms_bosco_conf_read "$1" START)"
        return
    fi
    # Same host, other boot: gone. Otherwise nobody can tell from here.
    here=${here%:*}
    world=${world%:*}
    [[ ${world%%:*} == "${here%%:*}" && ${world#*:} != "${here#*:}" ]]
}

# Seconds for all that dead pilots left; what is not done by then is the next pilot's.
# shellcheck disable=SC2034 # for cvmfs_setup
GWMS_BOSCO_SWEEP_S=3

# gwms_bosco_stale_sweep FOLDER [CACHES]: take down what dead pilots left, by their records in FOLDER and the owners of
# the caches in CACHES; prints one line for each.
gwms_bosco_stale_sweep() {
    local record place
    for record in "$1"/*; do
        [[ -f $record && -O $record && ! -L $record && $record != *.new ]] || continue
        gwms_bosco_stale_dead "$record" || continue
        place=$(gwms_bosco_conf_read "$record" PLACE)
        gwms_bosco_stale_clean "$place" "$(gwms_bosco_conf_read "$record" CACHE)" "$record" || continue
        echo "removed what the killed pilot of $place left"
    done
    [[ -z ${2-} ]] || gwms_bosco_stale_caches "$2"
}

# A holder touches its cache's `owner` every so many seconds; one left alone for so many minutes has none any more. A day is
# more than clocks of nodes differ.
# shellcheck disable=SC2034 # for the holder
GWMS_BOSCO_OWNER_S=600
GWMS_BOSCO_OWNER_DEAD_MIN=1440

# gwms_bosco_stale_caches FOLDER: caches of ours in it whose pilot is gone, also where the record was lost (a /tmp of the
# job's own, a node that was set up anew) or another node cannot judge it (a shared file system).
gwms_bosco_stale_caches() {
    local cache
    for cache in "$1"/gwms-bosco-cache-*; do
        [[ -d $cache && -O $cache && ! -L $cache ]] || continue
        if [[ -f $cache/owner ]] && gwms_bosco_stale_dead "$cache/owner"; then
            gwms_bosco_stale_clean "$(gwms_bosco_conf_read "$cache/owner" PLACE)" "$cache" "$cache/owner" || continue
        fi
        # Without a place: by age alone, as a killed pilot may not have come to write an owner.
        if [[ -z $(find "$cache" -prune -mmin "-$GWMS_BOSCO_OWNER_DEAD_MIN") ]] &&
            [[ -z $(find "$cache/owner" -mmin "-$GWMS_BOSCO_OWNER_DEAD_MIN" 2>/dev/null) ]]; then
            rm -rf "$cache"
        fi
        [[ -d $cache ]] || echo "removed the cache $cache that a killed pilot left"
    done
}

# gwms_bosco_stale_clean PLACE CACHE RECORD: processes, mounts, files. The record goes last, and stays while a mount does.
gwms_bosco_stale_clean() {
    gwms_bosco_stale_kill "$1"
    gwms_bosco_place_unmount "$1"
    # A record that was not believed is of no use to anyone.
    if gwms_bosco_place_ours "$1" && ! gwms_bosco_place_remove "$1" "$2"; then return 1; fi
    rm -f "$3"
}

# Processes that run out of the place: cvmfsexec, the client and its watchdogs. All are looked at by one program, as a big
# node has thousands; and again, as one may have started another meanwhile.
gwms_bosco_stale_kill() {
    local process found
    gwms_bosco_place_ours "$1" || return 1
    for found in 1 2 3; do
        found=$(gwms_bosco_stale_processes "$1")
        [[ -n $found ]] || return 0
        for process in $found; do kill -9 "$process" 2>/dev/null || true; done
    done
    return 0
}

# gwms_bosco_stale_processes PLACE: their numbers; told by the private TMPDIR that all of them have, and no payload.
gwms_bosco_stale_processes() {
    local process
    grep -lsF "TMPDIR=$1/tmp" /proc/[0-9]*/environ | while read -r process; do
        process=${process#/proc/}
        process=${process%/environ}
        [[ $process == "$$" || ! -O /proc/$process ]] || echo "$process"
    done
}

# A place is always called so: a record that says otherwise is not believed.
gwms_bosco_place_ours() {
    [[ $1 =~ ^/[A-Za-z0-9_./:,@%+=-]+/gwms_bosco/cvmfs$ && $1 != *..* ]]
}

# gwms_bosco_place_unmount PLACE: unmount this user's FUSE mounts below PLACE; a busy or dead one lazily.
gwms_bosco_place_unmount() {
    local mount program
    gwms_bosco_place_ours "$1" || return 1
    # mountinfo: field 5 is the mount point; the super options name the user.
    awk -v below="$1/" -v user="user_id=$(id -u)" \
        'index($5, below) == 1 && / - fuse/ && $0 ~ user "(,|$)" { print $5 }' /proc/self/mountinfo | sort -r |
        while IFS= read -r mount; do
            for program in fusermount3 fusermount; do
                command -v "$program" >/dev/null 2>&1 || continue
                "$program" -u "$mount" 2>/dev/null || "$program" -u -z "$mount" 2>/dev/null || continue
                break
            done
        done
    return 0
}

# gwms_bosco_place_remove PLACE CACHE: remove both, never through a mount that is still there.
gwms_bosco_place_remove() {
    gwms_bosco_place_ours "$1" || return 1
    if grep -qsF " $1/" /proc/self/mountinfo; then return 1; fi
    rm -rf "$1"
    [[ ${2##*/} == gwms-bosco-cache-* && ! -L $2 && -O $2 ]] && rm -rf "$2"
    return 0
}
