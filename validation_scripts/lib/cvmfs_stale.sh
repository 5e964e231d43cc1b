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
        if [[ -d $folder && ! -L $folder && -O $folder && $(stat -c %a "$folder") == 700 && -w $folder ]]; then
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

# gwms_bosco_stale_sweep FOLDER: take down what dead pilots left; prints one line for each.
gwms_bosco_stale_sweep() {
    local record place
    for record in "$1"/*; do
        [[ -f $record && -O $record && ! -L $record && $record != *.new ]] || continue
        gwms_bosco_stale_dead "$record" || continue
        place=$(gwms_bosco_conf_read "$record" PLACE)
        gwms_bosco_stale_kill "$place"
        gwms_bosco_place_unmount "$place"
        gwms_bosco_place_remove "$place" "$(gwms_bosco_conf_read "$record" CACHE)"
        rm -f "$record"
        echo "removed what the killed pilot of $place left"
    done
}

# Processes that run out of the place: cvmfsexec, the client and its watchdogs.
gwms_bosco_stale_kill() {
    local process
    gwms_bosco_place_ours "$1" || return 1
    for process in /proc/[0-9]*; do
        [[ -O $process && ${process#/proc/} != "$$" ]] || continue
        if grep -qsF "TMPDIR=$1/tmp" "$process/environ"; then kill -9 "${process#/proc/}" 2>/dev/null; fi
    done
    return 0
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
