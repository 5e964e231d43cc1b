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

# gwms_bosco_place_cache SPEC PLACE NAME QUOTA_MB: make the pilot's private cache folder; print folder and quota. SPEC is
# local:DIR, ram or empty (the place itself). The quota is cut to four fifths of what is free, since the
# client does not look. 1 and the reason when it cannot be.
gwms_bosco_place_cache() {
    local parent free quota=$4 cache
    case $1 in
        '') parent=$2 ;;
        ram) parent=/dev/shm ;;
        local:/*) parent=${1#*:} ;;
        *) echo "cache $(gwms_bosco_report_safe "$1" 60) is neither local:DIR nor ram"; return 1 ;;
    esac
    gwms_bosco_node_path "$parent" || return 1
    cache=$parent/$3
    if ! (umask 077 && mkdir -p "$parent" && mkdir "$cache") 2>/dev/null; then
        echo "cannot make a cache in $parent"
        return 1
    fi
    free=$(gwms_bosco_place_free_mb "$cache")
    if [[ -n $free && $free -lt $GWMS_BOSCO_CACHE_MIN_MB ]]; then
        rmdir "$cache"
        echo "only $free MB free for the cache in $parent"
        return 1
    fi
    [[ -z $free || $((free * 4 / 5)) -ge $quota ]] || quota=$((free * 4 / 5))
    printf '%s %s\n' "$cache" "$quota"
}

# gwms_bosco_place_config_repository PLACE: the repository that holds the settings of others, if the distribution names one.
gwms_bosco_place_config_repository() {
    cat "$1"/dist/etc/cvmfs/default.d/*.conf 2>/dev/null | sed -n 's/^CVMFS_CONFIG_REPOSITORY=//p' | tail -n 1 | tr -d '"\r'
}
