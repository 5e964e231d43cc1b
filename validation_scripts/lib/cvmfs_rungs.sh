# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The cvmfs_* variables are settings that cvmfs_setup reads; the rung_* ones are for it.
# shellcheck disable=SC2034,SC2154
# The ladder: one function for each way to get /cvmfs. Each tries for real within a time limit, and leaves either a
# working cvmfs.conf or the reason in `rung_reason`.
# gwms-bosco-include: lib/container.sh

# Seconds a rung may take. 6 s: a cold start with three repositories takes half a second; a web proxy that stays silent
# takes 11 s, and no rung cures it.
GWMS_BOSCO_RUNG_S=6
GWMS_BOSCO_NATIVE_S=4
# Seconds since the script's start, at which nothing begins any more and all that waits gives up. What may come after it:
# the second in which a holder's own reason arrives, the time a holder has to end, and the one to kill it. With whole
# seconds as the unit, all together stay within the 20 s that a pilot's start may wait for /cvmfs.
GWMS_BOSCO_LADDER_S=13
GWMS_BOSCO_DROP_S=3
GWMS_BOSCO_CLEAN_S=2

# gwms_bosco_rung_climb RUNGS: set `rung_mode` to the first that works, `rung_why` to why the others did not.
gwms_bosco_rung_climb() {
    local rung
    rung_mode=none rung_why='' rung_end=$GWMS_BOSCO_LADDER_S
    # Nothing before can hang for so long. A node that is merely slow gets one rung's time, whatever the hour.
    [[ $((SECONDS + GWMS_BOSCO_RUNG_S)) -le $rung_end ]] || rung_end=$((SECONDS + GWMS_BOSCO_RUNG_S))
    for rung in ${1//,/ }; do
        rung_reason='' rung_cache='' rung_mount=''
        # Only of the rung that works.
        rm -f "$GWMS_BOSCO_DIR/prefix"
        rung_trial_s=$(gwms_bosco_rung_seconds "$GWMS_BOSCO_TRIAL_S")
        if [[ $rung_trial_s -lt 1 ]]; then
            rung_reason='no time left'
        elif "gwms_bosco_rung_$rung"; then
            rung_mode=$rung
            return 0
        fi
        rung_why+="${rung_why:+; }$rung: $(gwms_bosco_report_safe "$rung_reason" 140)"
    done
    rung_cache='' rung_mount=''
    rm -f "$GWMS_BOSCO_DIR/prefix"
    return 1
}

# gwms_bosco_rung_seconds MOST: what a step may still take.
gwms_bosco_rung_seconds() {
    local left=$((rung_end - SECONDS))
    echo $((left < $1 ? left : $1))
}

gwms_bosco_rung_native() {
    rung_reason=$(gwms_bosco_cvmfs_probe "$(gwms_bosco_rung_seconds "$GWMS_BOSCO_NATIVE_S")" /cvmfs "$cvmfs_repositories") || return 1
    rung_cache=node
    gwms_bosco_conf_write "$GWMS_BOSCO_DIR/cvmfs.conf" MODE native MOUNT /cvmfs HOLDER '' REPOSITORIES "$cvmfs_repositories" ||
        { rung_reason='cannot write the state folder'; return 1; }
}

# cvmfsexec mode 3: FUSE mounts within user name spaces.
gwms_bosco_rung_userns() {
    rung_reason=$(gwms_bosco_node_userns) || return 1
    rung_reason=$(gwms_bosco_node_fuse) || return 1
    rung_reason=$(gwms_bosco_node_enter) || return 1
    gwms_bosco_rung_held userns
}

# cvmfsexec mode 2: mounts by fusermount, a user name space to show them at /cvmfs. cvmfsexec chooses by the kernel's
# version alone, so an own `uname` tells it an old one. Without user name spaces this mode waits for ever.
gwms_bosco_rung_fusermount() {
    rung_reason=$(gwms_bosco_node_userns) || return 1
    rung_reason=$(gwms_bosco_node_fuse) || return 1
    rung_reason=$(gwms_bosco_node_fusermount) || return 1
    rung_reason=$(gwms_bosco_node_mtab) || return 1
    rung_reason=$(gwms_bosco_node_enter) || return 1
    gwms_bosco_rung_held fusermount
}

# gwms_bosco_rung_held MODE: a place, a holder, its answer, and a payload's read through run-with-cvmfs.
gwms_bosco_rung_held() {
    local answer seconds
    if ! gwms_bosco_rung_place "$1"; then
        gwms_bosco_place_remove "$cvmfs_place" "$rung_cache"
        [[ -z ${rung_record-} ]] || rm -f "$rung_record"
        return 1
    fi
    seconds=$(gwms_bosco_rung_seconds "$GWMS_BOSCO_RUNG_S")
    gwms_bosco_rung_hold "$1" "$((seconds > 0 ? seconds : 0))"
    case $answer in
        'ready '*) ;;
        *) rung_reason=${answer#failed }; gwms_bosco_rung_drop; return 1 ;;
    esac
    answer=${answer#ready }
    rung_mount=/cvmfs
    [[ $1 != mountrepo ]] || rung_mount=$cvmfs_place/dist/cvmfs
    if ! gwms_bosco_conf_write "$GWMS_BOSCO_DIR/cvmfs.conf" MODE "$1" MOUNT "$rung_mount" HOLDER "${answer% *}" \
        HOLDER_START "${answer#* }" REPOSITORIES "$cvmfs_repositories" CONTROL "$cvmfs_place/control" CACHE "$rung_cache" \
        NSENTER "$(command -v nsenter)" ENV "$(gwms_bosco_rung_env)"; then
        rung_reason='cannot write the state folder'
    elif rung_reason=$(gwms_bosco_cvmfs_probe "$(gwms_bosco_rung_seconds 4)" "${rung_shown:-/cvmfs}" \
        "$cvmfs_repositories" "$GWMS_BOSCO_DIR/run-with-cvmfs"); then
        return 0
    fi
    gwms_bosco_rung_drop
    return 1
}

# cvmfsexec mode 1: mounts by fusermount, below the place and not at /cvmfs. Worth it where something else can show it
# there: parrot's path mapping, or the container that all payloads run in.
gwms_bosco_rung_mountrepo() {
    local rung_shown=/cvmfs
    rung_reason=$(gwms_bosco_node_fuse) || return 1
    rung_reason=$(gwms_bosco_node_fusermount) || return 1
    rung_reason=$(gwms_bosco_node_mtab) || return 1
    if [[ -n $cvmfs_parrot && -x $cvmfs_parrot ]]; then
        printf '%s\n' "$cvmfs_parrot" -M "/cvmfs=$GWMS_BOSCO_DIR/cvmfs/dist/cvmfs" -- >"$GWMS_BOSCO_DIR/prefix"
    elif [[ -n $cvmfs_image && $cvmfs_container == payload ]]; then
        rung_shown=$GWMS_BOSCO_DIR/cvmfs/dist/cvmfs
        : >"$GWMS_BOSCO_DIR/prefix"
    else
        rung_reason='nothing here could show the mount at /cvmfs (no parrot, no image)'
        return 1
    fi
    gwms_bosco_rung_held mountrepo
}

# cvmfsexec mode 4: repositories mounted by apptainer, in the image that the site names. The digest comes before the first
# program of the image runs. Reading a big one takes longer than a rung may, but container_setup would have to, and does
# not do it again; so the clock stands still meanwhile.
gwms_bosco_rung_container() {
    local program sha256 before=$SECONDS rc
    [[ -n $cvmfs_image ]] || { rung_reason='no image is set for this site'; return 1; }
    [[ -r $cvmfs_image ]] || { rung_reason="no image at $cvmfs_image"; return 1; }
    program=$(command -v singularity || command -v apptainer) || { rung_reason='no apptainer'; return 1; }
    sha256=$(gwms_bosco_config_checked GWMS_BOSCO_IMAGE_SHA256 '[0-9a-f]{64}' '' 2>&1) || { rung_reason=$sha256; return 1; }
    rung_reason=$(gwms_bosco_container_image "$cvmfs_image" "$sha256" 2>&1)
    rc=$?
    rung_end=$((rung_end + SECONDS - before))
    [[ $rc == 0 ]] || return 1
    printf '%s\n' "$program" --silent exec "instance://gwms-bosco-$cvmfs_name" >"$GWMS_BOSCO_DIR/prefix"
    gwms_bosco_rung_held container
}

# parrot: traces the payload's system calls. Whether it works hangs on the node's own C library, so a real program reads
# a real file under it; parrot's exit code would be the program's even with nothing there.
gwms_bosco_rung_parrot() {
    local repository
    [[ -n $cvmfs_parrot ]] || { rung_reason='no parrot_run is set for this site'; return 1; }
    [[ -x $cvmfs_parrot ]] || { rung_reason="cannot execute $cvmfs_parrot"; return 1; }
    mkdir -p "$GWMS_BOSCO_DIR/parrot"
    {
        printf '%s\n' "$cvmfs_parrot" --cvmfs-repo-switching -t "$GWMS_BOSCO_DIR/parrot" -p "${cvmfs_proxy:-DIRECT}" -r
        for repository in ${cvmfs_repositories//,/ }; do gwms_bosco_rung_parrot_repository "$repository"; done | paste -sd ' ' -
        echo --
    } >"$GWMS_BOSCO_DIR/prefix"
    gwms_bosco_conf_write "$GWMS_BOSCO_DIR/cvmfs.conf" MODE parrot MOUNT /cvmfs HOLDER '' REPOSITORIES "$cvmfs_repositories" \
        PARROT "$cvmfs_parrot" CACHE "$GWMS_BOSCO_DIR/parrot"
    rung_cache=$GWMS_BOSCO_DIR/parrot
    if ! rung_reason=$(gwms_bosco_cvmfs_probe "$(gwms_bosco_rung_seconds "$GWMS_BOSCO_RUNG_S")" /cvmfs "$cvmfs_repositories" \
        "$GWMS_BOSCO_DIR/run-with-cvmfs"); then
        rm -f "$GWMS_BOSCO_DIR/cvmfs.conf"
        return 1
    fi
}

# REPOSITORY:url=...,pubkey=... out of the distribution's settings, as parrot's own list of servers and keys is old.
gwms_bosco_rung_parrot_repository() {
    local etc=$cvmfs_distribution/dist/etc/cvmfs domain=${1#*.} url keys
    url=$(sed -n 's/^CVMFS_SERVER_URL=//p' "$etc/domain.d/$domain.conf" 2>/dev/null | tail -n 1 | tr -d '"\r')
    url=${url//@fqrn@/$1}
    url=${url//@org@/${1%%.*}}
    keys=$(find "$etc/keys/$domain" -name '*.pub' 2>/dev/null | sort | paste -sd : -)
    printf '%s%s%s\n' "$1" "${url:+:url=$url}" "${keys:+,pubkey=$keys}"
}

# env(1) where it can change the folder (coreutils 8.28), as it touches no variable.
gwms_bosco_rung_env() {
    if env -C / true 2>/dev/null; then command -v env; fi
}

# The own place, its settings and cache, and the record for whoever comes after a kill -9.
gwms_bosco_rung_place() {
    cvmfs_place=$GWMS_BOSCO_DIR/cvmfs rung_record=''
    rung_reason=$(gwms_bosco_node_path "$cvmfs_place") || return 1
    rung_reason=$(gwms_bosco_place_make "$cvmfs_distribution" "$cvmfs_place") || return 1
    gwms_bosco_rung_cache "$1" || return 1
    gwms_bosco_rung_siteconf
    printf '%s\n' "$cvmfs_image" >"$cvmfs_place/image"
    printf 'gwms-bosco-%s\n' "$cvmfs_name" >"$cvmfs_place/instance"
    if [[ $1 == container ]] && ! command -v singularity >/dev/null 2>&1; then
        mkdir "$cvmfs_place/shim"
        ln -s "$(command -v apptainer)" "$cvmfs_place/shim/singularity"
    fi
    if [[ $1 == fusermount ]]; then
        mkdir "$cvmfs_place/shim"
        # shellcheck disable=SC2016 # the program's
        printf '#!/bin/sh\n[ "$*" != -r ] || { echo 4.17.0; exit 0; }\nexec %s "$@"\n' "$(command -v uname)" \
            >"$cvmfs_place/shim/uname"
        chmod 700 "$cvmfs_place/shim/uname"
    fi
}

# siteconf_setup fills the folder later. What the client makes of its variable link /cvmfs/cms.cern.ch/SITECONF/local leads
# there, for releases that look nowhere else; and a container that starts now can bind it.
gwms_bosco_rung_siteconf() {
    [[ -n $(gwms_bosco_config_get GWMS_BOSCO_SITECONF_SITE) ]] || return 0
    mkdir -p "$GWMS_BOSCO_DIR/siteconf/SITECONF"
    printf 'CMS_LOCAL_SITE=%s\n' "$(gwms_bosco_place_value "$GWMS_BOSCO_DIR/siteconf/SITECONF/local")" \
        >>"$cvmfs_place/dist/etc/cvmfs/default.local"
}

# gwms_bosco_rung_cache RUNG: the cache and the client's settings. The record comes first, so that no instant is left in
# which a killed pilot leaves a cache that nobody knows.
gwms_bosco_rung_cache() {
    local base cache output=$cvmfs_place/cache.out seconds
    rung_reason=$(gwms_bosco_place_parent "$cvmfs_cache" "$cvmfs_place") || return 1
    cache=$rung_reason/gwms-bosco-cache-$cvmfs_name
    if [[ $1 == container && $cvmfs_cache == image:* ]]; then
        rung_reason='a cache image cannot be used in a container'
        return 1
    fi
    # Where that folder is full, at least the pilot itself has a record; no other pilot finds it there.
    rung_record=$(gwms_bosco_stale_record "$cvmfs_records" "$cvmfs_name" "$cvmfs_pilot" "$cvmfs_place" "$cache") ||
        rung_record=$(gwms_bosco_stale_record "$GWMS_BOSCO_DIR" record "$cvmfs_pilot" "$cvmfs_place" "$cache") || {
        rung_reason='cannot write the record of this pilot'
        return 1
    }
    rung_cache=$cache
    # A shared file system may hang.
    seconds=$(gwms_bosco_rung_seconds "$GWMS_BOSCO_RUNG_S")
    gwms_bosco_limit_run "$((seconds > 0 ? seconds : 1))" "$output" \
        gwms_bosco_place_cache "$cvmfs_cache" "$cache" "$cvmfs_quota_mb" "$cvmfs_distribution/dist/usr/sbin" || {
        [[ $? != 124 ]] && rung_reason=$(tail -n 1 "$output") || rung_reason="no cache in ${cache%/*} in time"
        return 1
    }
    gwms_bosco_stale_record "$cache" owner "$cvmfs_pilot" "$cvmfs_place" "$cache" >/dev/null || {
        rung_reason="cannot write $cache"
        return 1
    }
    base=$cache
    if [[ $cvmfs_cache == image:* ]]; then
        # cvmfsexec shows it there by itself; by fusermount it is mounted below the place.
        [[ $1 == userns ]] && base=/e2fs/cvmfscache || base=$cvmfs_place/cache
        printf '%s\n' "$cache/image" >"$cvmfs_place/cache-image"
    elif [[ $1 == container ]]; then
        # singcvmfs shows the cache's folder at the client's own default.
        base=''
    fi
    gwms_bosco_place_settings "$cvmfs_place" "$cvmfs_repositories" "$base" "$(tail -n 1 "$output")" "$cvmfs_proxy" || {
        rung_reason="cannot write $cvmfs_place"
        return 1
    }
    if [[ $1 == container ]]; then
        gwms_bosco_place_contained "$cvmfs_distribution" "$cvmfs_place" || { rung_reason="cannot write $cvmfs_place"; return 1; }
    fi
}

# Signals that end a job, and warnings before: Slurm, Grid Engine and LSF send USR1, USR2, XCPU and ALRM where asked.
GWMS_BOSCO_IGNORED='HUP INT QUIT TERM USR1 USR2 XCPU ALRM PIPE'

# gwms_bosco_rung_hold MODE SECONDS: start the holder in a session of its own and set `answer`. One second more than the
# holder's own limit, so that its reason arrives.
gwms_bosco_rung_hold() {
    local feed
    mkfifo -m 600 "$cvmfs_place/answer" "$cvmfs_place/control" 2>/dev/null
    exec {feed}<>"$cvmfs_place/answer"
    (
        gwms_bosco_rung_loosen
        # From here on: what a batch system sends to all processes of a job must not find a holder that does not ignore it.
        # shellcheck disable=SC2086 # words
        trap '' $GWMS_BOSCO_IGNORED
        gwms_bosco_rung_sober
        exec setsid env "${sober[@]}" "$GWMS_BOSCO_DIR/cvmfs-holder" "$cvmfs_place" "$1" "$cvmfs_pilot" \
            "$(gwms_bosco_limit_start "$cvmfs_pilot")" "$2" "$rung_cache" "$cvmfs_repositories" "$rung_record"
    ) </dev/null >"$GWMS_BOSCO_DIR/cvmfs-holder.log" 2>&1 &
    rung_holder=$!
    # Without the shell's own word when it is killed.
    disown "$rung_holder"
    IFS= read -r -t "$(($2 + 1))" -u "$feed" answer || answer='failed the holder gave no answer in time'
    exec {feed}>&-
}

# Let go of all that the pilot has open: whoever reads its output to the end would wait for the holder.
gwms_bosco_rung_loosen() {
    local fd
    for fd in "/proc/$BASHPID/fd"/*; do
        fd=${fd##*/}
        [[ $fd -le 2 ]] || eval "exec $fd>&-"
    done
}

# cvmfsexec is bash: what changes how bash reads a script, or stands for a program that the script runs, stays outside.
# `sober` gets the options by which env(1) leaves out exported functions; no shell can unset them.
gwms_bosco_rung_sober() {
    local variable
    sober=()
    unset BASH_ENV ENV POSIXLY_CORRECT CDPATH GLOBIGNORE
    while IFS= read -r -d '' variable; do
        [[ $variable != BASH_FUNC_* ]] || sober+=(-u "${variable%%=*}")
    done <"/proc/$BASHPID/environ"
}

# Give up on a holder: it takes everything down; if it does not in time, it is killed and its leavings swept.
gwms_bosco_rung_drop() {
    local until=$((SECONDS + GWMS_BOSCO_DROP_S)) control
    rm -f "$GWMS_BOSCO_DIR/cvmfs.conf"
    # Kept open: a holder that does not listen yet finds the word later. One that is gone has removed the fifo.
    if [[ -p $cvmfs_place/control ]] && { exec {control}<>"$cvmfs_place/control"; } 2>/dev/null; then
        # Unquoted: `declare -f` of bash 5.1 writes >&"$control" as &>, a file of that name.
        echo stop >&$control
    fi
    while kill -0 "$rung_holder" 2>/dev/null && [[ $SECONDS -lt $until ]]; do gwms_bosco_limit_pause 0.05; done
    [[ -z ${control-} ]] || exec {control}>&-
    kill -9 -- "-$rung_holder" 2>/dev/null
    gwms_bosco_limit_run "$GWMS_BOSCO_CLEAN_S" /dev/null gwms_bosco_stale_clean "$cvmfs_place" "$rung_cache" "$rung_record"
}
