# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A pilot's own place for cvmfsexec: nothing in it is shared with another pilot but dist/usr, which is only read.
# Two cvmfsexec in one directory take each other's root away; a shared cache dies with the pilot that started its manager.

# gwms_bosco_place_make DIST PLACE: own copies of the scripts and settings, own empty run-time folders, dist/usr a link.
gwms_bosco_place_make() {
    local dist=$1 place=$2 program entry
    [[ -x $dist/cvmfsexec && -x $dist/mountrepo && -d $dist/dist/usr && -d $dist/dist/etc/cvmfs ]] || {
        echo "no cvmfsexec distribution in $(gwms_bosco_report_safe "$dist" 80)"
        return 1
    }
    # Removing a folder through a mount that would not go reads the whole repository.
    if grep -qsF " $place/" /proc/self/mountinfo; then echo "mounts are left below $place"; return 1; fi
    rm -rf "$place"
    if ! (
        umask 077
        mkdir -p "$place/dist/var/run/cvmfs" "$place/dist/var/lib/cvmfs" "$place/dist/cvmfs" "$place/tmp" "$place/log"
        for program in cvmfsexec mountrepo umountrepo singcvmfs cvmfs2-wrapper; do
            [[ ! -e $dist/$program ]] || cp "$dist/$program" "$place/$program" || exit 1
        done
        cp -R "$dist/dist/etc" "$place/dist/etc" || exit 1
        # Only usr is big; lib, lib64 and the like come along as links too.
        for entry in "$dist"/dist/*; do
            case ${entry##*/} in
                etc | var | cvmfs) ;;
                *) ln -s "$entry" "$place/dist/${entry##*/}" || exit 1 ;;
            esac
        done
    ) 2>/dev/null; then
        echo "cannot write below $(gwms_bosco_report_safe "$place" 80)"
        return 1
    fi
}

# gwms_bosco_place_contained DIST PLACE: folders in place of the links to folders. singcvmfs binds everything in dist that
# is no folder, and a link named usr would take the place of the image's own /usr.
gwms_bosco_place_contained() {
    local entry
    for entry in "$2"/dist/*; do
        [[ -L $entry && -d $entry ]] || continue
        rm "$entry"
        cp -Rs "$1/dist/${entry##*/}" "$entry" 2>/dev/null || cp -R "$1/dist/${entry##*/}" "$entry" || return 1
    done
}

# gwms_bosco_place_value PATH: a path as default.local must say it. mountrepo moves values that begin with /var, /etc or
# /cvmfs into dist; a second slash stops it.
gwms_bosco_place_value() {
    case $1 in
        /var* | /etc* | /cvmfs*) printf '/%s' "$1" ;;
        *) printf '%s' "$1" ;;
    esac
}

# gwms_bosco_place_settings PLACE REPOSITORIES CACHE QUOTA_MB PROXY: append ours to dist/etc/cvmfs/default.local, the
# last one wins. The file's last line counts only with a final newline, both before and after.
gwms_bosco_place_settings() {
    local file=$1/dist/etc/cvmfs/default.local
    {
        [[ ! -s $file ]] || { tr -d '\r' <"$file"; echo; }
        printf 'CVMFS_REPOSITORIES=%s\n' "$2"
        [[ -z $3 ]] || printf 'CVMFS_CACHE_BASE=%s\n' "$(gwms_bosco_place_value "$3")"
        [[ -z $4 ]] || printf 'CVMFS_QUOTA_LIMIT=%s\n' "$4"
        [[ -z $5 ]] || printf 'CVMFS_HTTP_PROXY="%s"\n' "$5"
    } >"$file.new" && mv -f "$file.new" "$file"
}

# Below this many MB free, a cache place is not used: the client itself would start and then answer reads with EIO.
GWMS_BOSCO_CACHE_MIN_MB=100

# gwms_bosco_place_free_mb FOLDER: free space, MB.
gwms_bosco_place_free_mb() {
    df -Pk "$1" 2>/dev/null | awk 'END { if ($4 ~ /^[0-9]+$/) print int($4 / 1024) }'
}

# gwms_bosco_place_parent SPEC PLACE: the folder that a pilot's cache is made in. SPEC is local:DIR, image:DIR, ram or
# empty (the place itself).
gwms_bosco_place_parent() {
    case $1 in
        '') printf '%s' "$2" ;;
        ram) printf /dev/shm ;;
        local:/* | image:/*) printf '%s' "${1#*:}" ;;
        *) echo "cache $(gwms_bosco_report_safe "$1" 60) is neither local:DIR, image:DIR nor ram"; return 1 ;;
    esac
}

# gwms_bosco_place_cache SPEC CACHE QUOTA_MB [TOOLS]: make the pilot's private cache folder CACHE, with an image in it where
# SPEC is image:DIR; print the quota. It is cut to four fifths of what is free, since the client does not look. 1 and the
# reason when it cannot be.
gwms_bosco_place_cache() {
    local parent=${2%/*} free quota=$3 reason
    gwms_bosco_node_path "$2" || return 1
    # Pilots of other users come to the same folder, as to /tmp.
    # shellcheck disable=SC2174
    if ! (umask 022 && { [[ -d $parent ]] || mkdir -p -m 1777 "$parent"; } && mkdir -m 0700 "$2") 2>/dev/null; then
        echo "cannot make a cache in $parent"
        return 1
    fi
    free=$(gwms_bosco_place_free_mb "$2")
    if [[ -n $free && $free -lt $GWMS_BOSCO_CACHE_MIN_MB ]]; then
        rmdir "$2"
        echo "only $free MB free for the cache in $parent"
        return 1
    fi
    [[ -z $free || $((free * 4 / 5)) -ge $quota ]] || quota=$((free * 4 / 5))
    if [[ $1 == image:* ]] && ! reason=$(gwms_bosco_place_image "$2/image" "$quota" "${4-}"); then
        rm -rf "$2"
        echo "$reason"
        return 1
    fi
    echo "$quota"
}

# What an image has above the quota: the file system's own tables, and files that the client still writes.
GWMS_BOSCO_IMAGE_EXTRA_MB=64

# gwms_bosco_place_image FILE QUOTA_MB TOOLS: an ext4 file system for this user in a file with holes; 1 and the reason.
# TOOLS is a folder of a distribution that may have fuse2fs.
gwms_bosco_place_image() {
    local log size=$(($2 * 5 / 4 + GWMS_BOSCO_IMAGE_EXTRA_MB))
    local program
    for program in mke2fs fuse2fs; do
        PATH=$PATH:$3 gwms_bosco_node_has "$program" || { echo "no $program program for a cache image"; return 1; }
    done
    # Features that every fuse2fs knows: with one it does not, cvmfsexec goes on and the cache lies somewhere else. No
    # journal, as the image ends with the pilot.
    log=$(umask 077 && mke2fs -q -F -t ext4 -m 0 \
        -O none,extent,flex_bg,filetype,sparse_super,large_file,huge_file,dir_index,dir_nlink,extra_isize,uninit_bg \
        -E "lazy_itable_init=1,root_owner=$(id -u):$(id -g)" "$1" "${size}M" 2>&1 </dev/null) && return 0
    echo "cannot make a cache image: $(gwms_bosco_report_safe "$(tail -n 1 <(printf '%s' "$log"))" 100)"
    return 1
}

# gwms_bosco_place_config_repository PLACE: the repository that holds the settings of others, if the distribution names one.
gwms_bosco_place_config_repository() {
    cat "$1"/dist/etc/cvmfs/default.d/*.conf 2>/dev/null | sed -n 's/^CVMFS_CONFIG_REPOSITORY=//p' | tail -n 1 | tr -d '"\r'
}
