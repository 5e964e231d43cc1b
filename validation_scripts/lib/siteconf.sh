# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The pilot's own SITECONF in the state folder: siteconf/SITECONF is what payloads see, siteconf/pieces what the site's
# site-local-config.xml is put together from whenever the choice of web proxies changes.
# Needs: lib/report.sh lib/cvmfs_conf.sh lib/state.sh
# gwms-bosco-include: lib/siteconf_check.sh

# A list of more is a mistake; a client asks one after the other.
GWMS_BOSCO_SITECONF_MAX_URLS=64
# What a Frontier connect string and an XML attribute can hold without a change.
GWMS_BOSCO_SITECONF_URL='^https?://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)(:([1-9][0-9]{0,4}))?/?$'

# gwms_bosco_siteconf_urls KEY: the URLs of a list in web_proxy.conf, one per line; 1 and a reason.
gwms_bosco_siteconf_urls() {
    local LC_ALL=C value url count=0
    value=$(gwms_bosco_state_read web_proxy.conf "$1")
    [[ -n $value ]] || return 0
    while IFS= read -r -d , url; do
        if [[ ! $url =~ $GWMS_BOSCO_SITECONF_URL || ${BASH_REMATCH[4]:-0} -gt 65535 ]]; then
            echo "$1 of web_proxy.conf has something that is no URL of a web proxy: $(gwms_bosco_report_safe "$url" 60)"
            return 1
        fi
        count=$((count + 1))
        if [[ $count -gt $GWMS_BOSCO_SITECONF_MAX_URLS ]]; then
            echo "$1 of web_proxy.conf has more than $GWMS_BOSCO_SITECONF_MAX_URLS URLs"
            return 1
        fi
        printf '%s\n' "$url"
    done <<<"$value,"
}

# gwms_bosco_siteconf_elements: the XML elements for the web proxies that were found; 1 and a reason.
gwms_bosco_siteconf_elements() {
    local key urls url
    for key in FRONTIER BACKUPS; do
        urls=$(gwms_bosco_siteconf_urls "$key") || { printf '%s\n' "${urls##*$'\n'}"; return 1; }
        while IFS= read -r url; do
            [[ -n $url ]] || continue
            url=$(gwms_bosco_report_xml "$url")
            [[ $key == FRONTIER ]] && printf '        <proxy url="%s"/>\n' "$url" || printf '        <backupproxy url="%s"/>\n' "$url"
        done <<<"$urls"
    done
}

# gwms_bosco_siteconf_write: put site-local-config.xml together from its pieces and the web proxies in web_proxy.conf, and
# put it in place at once: whoever reads finds the old one or the new one. 1 and a reason on stdout; the old one then
# stays. Nothing is done where SITECONF is the node's own or there is none.
gwms_bosco_siteconf_write() {
    local pieces=$GWMS_BOSCO_DIR/siteconf/pieces new=$GWMS_BOSCO_DIR/siteconf/new.xml elements name reason
    [[ -d $pieces ]] || return 0
    elements=$(gwms_bosco_siteconf_elements) || { printf '%s\n' "${elements##*$'\n'}"; return 1; }
    while IFS= read -r name; do
        name=${name%.head}
        if ! {
            cat "$pieces/$name.head" && { [[ -z $elements ]] || printf '%s\n' "$elements"; } && cat "$pieces/$name.tail"
        } >"$new" 2>/dev/null; then
            echo "cannot put $name together"
            return 1
        fi
        reason=$(gwms_bosco_siteconf_xml "$new") || { printf '%s\n' "$reason"; return 1; }
        if ! { chmod 0644 "$new" && mv -f "$new" "$GWMS_BOSCO_DIR/siteconf/SITECONF/$name"; } 2>/dev/null; then
            echo "cannot write $name"
            return 1
        fi
    done < <(cd "$pieces" && find . -name '*.head')
}

# gwms_bosco_siteconf_empty: make the tree's folder, or empty it. It stays the same folder: a container that was started
# before shows it already.
gwms_bosco_siteconf_empty() {
    local folder=$GWMS_BOSCO_DIR/siteconf
    mkdir -p "$folder/SITECONF" && chmod 0755 "$folder/SITECONF" &&
        rm -rf "$folder"/SITECONF/* "$folder/SITECONF/.cms" "$folder/pieces" "$folder/new.xml"
}

# Old elements name the catalog by its path. The factory does not know where on a node the tree will be, and says
# /etc/cvmfs/SITECONF, which only containers have.
gwms_bosco_siteconf_catalogs() {
    local tree=$GWMS_BOSCO_DIR/siteconf/SITECONF file
    while IFS= read -r file; do
        sed "s|trivialcatalog_file:\\(//\\)\\{0,1\\}/etc/cvmfs/SITECONF/|trivialcatalog_file:$tree/|g" "$file" \
            >"$tree/../new.xml" && mv -f "$tree/../new.xml" "$file" && chmod 0644 "$file" || return 1
    done < <(find "$tree" -type f -name 'site-local-config.xml*')
}

# gwms_bosco_siteconf_unpack FOLDER SITE SUBSITE: fill the tree from the entry's unpacked archive and the web proxies.
# 1 and a reason. `local` leads to the subsite, as releases before 12_6 and cmsset_default.sh know no other name.
gwms_bosco_siteconf_unpack() {
    local LC_ALL=C tree=$GWMS_BOSCO_DIR/siteconf/SITECONF pieces=$GWMS_BOSCO_DIR/siteconf/pieces name reason
    local -a names
    [[ -d $1/SITECONF/$2 ]] || { echo "the archive has no folder SITECONF/$2"; return 1; }
    if ! {
        gwms_bosco_siteconf_empty && mkdir "$pieces" && cp -RP "$1/SITECONF/." "$tree/" && rm -rf "$tree/local" &&
            chmod -R u+rwX,go+rX "$tree" && ln -s "$2${3:+/$3}" "$tree/local"
    } 2>/dev/null; then
        echo "cannot write below $GWMS_BOSCO_DIR"
        return 1
    fi
    gwms_bosco_siteconf_catalogs || { echo "cannot write $tree"; return 1; }
    mapfile -t names < <(cd "$tree" && find . -type f \( -name '*.xml.head' -o -name '*.xml.tail' \))
    for name in "${names[@]}"; do
        [[ $name =~ ^[A-Za-z0-9_./-]+$ && " ${names[*]} " == *" ${name%.*}.head "* && " ${names[*]} " == *" ${name%.*}.tail "* ]] ||
            { echo "the archive has half of $(gwms_bosco_report_safe "${name%.*}" 80)"; return 1; }
        if ! { mkdir -p "$pieces/${name%/*}" && mv "$tree/$name" "$pieces/$name"; } 2>/dev/null; then
            echo "cannot write $pieces"
            return 1
        fi
    done
    [[ -n $(find "$pieces" -name '*.head') ]] || rm -rf "$pieces"
    reason=$(gwms_bosco_siteconf_write) || { printf '%s\n' "$reason"; return 1; }
    reason=$(gwms_bosco_siteconf_check "$tree/local" "$2" "$3") || { printf '%s\n' "$reason"; return 1; }
}

# gwms_bosco_siteconf_take FROM TO [FILE]...: copy these files, or all plain ones of a small folder.
gwms_bosco_siteconf_take() {
    local from=$1 to=$2 file
    shift 2
    [[ -d $from ]] || return 0
    [[ $# -gt 0 ]] || set -- "$from"/*
    [[ $# -le 100 ]] || { echo "more than 100 files in $from"; return 1; }
    mkdir -p "$to" || return 1
    for file; do
        file=${file##*/}
        [[ -f $from/$file && $(wc -c <"$from/$file") -le $GWMS_BOSCO_SITECONF_MAX_BYTES ]] || continue
        cp "$from/$file" "$to/$file" && chmod 0644 "$to/$file" || return 1
    done
}

# gwms_bosco_siteconf_copy FOLDER SITE SUBSITE: fill the tree from a SITECONF of the node, links resolved, with the other
# sites it refers to. So all payloads find it, also in containers and under the name of any way to /cvmfs. 1 and a reason.
gwms_bosco_siteconf_copy() {
    local tree=$GWMS_BOSCO_DIR/siteconf/SITECONF found real site subsite name reason
    found=$(gwms_bosco_siteconf_check "$1" "$2" "$3") || { printf '%s\n' "$found"; return 1; }
    gwms_bosco_siteconf_healthy "$found" || return 1
    real=$(cd -P "$1" && pwd -P) || return 1
    site=$(gwms_bosco_siteconf_fact "$found" site)
    subsite=$(gwms_bosco_siteconf_fact "$found" subsite)
    if ! { gwms_bosco_siteconf_empty && mkdir "$tree/$site" && ln -s "$site${subsite:+/$subsite}" "$tree/local"; } 2>/dev/null; then
        echo "cannot write $tree"
        return 1
    fi
    if [[ -n $subsite ]]; then
        for name in JobConfig PhEDEx; do
            gwms_bosco_siteconf_take "$real/$name" "$tree/$site/$subsite/$name" || return 1
        done
        real=${real%/*}
    fi
    for name in JobConfig PhEDEx; do
        gwms_bosco_siteconf_take "$real/$name" "$tree/$site/$name" || return 1
    done
    gwms_bosco_siteconf_take "$real" "$tree/$site" storage.json || return 1
    for name in $(gwms_bosco_siteconf_siblings "$found"); do
        [[ $name == "$site" ]] || gwms_bosco_siteconf_take "${real%/*}/$name" "$tree/$name" storage.json || return 1
    done
    reason=$(gwms_bosco_siteconf_check "$tree/local" "$2" "$3") || { printf '%s\n' "$reason"; return 1; }
}

# gwms_bosco_siteconf_shim FOLDER: FOLDER as CMS_PATH, for releases before 12_6, which know no SITECONFIG_PATH: all that
# /cvmfs/cms.cern.ch has, and this SITECONF. Inside the tree, as it is then where the tree is.
# Source: cms-sw/cmssw 12_5 SiteLocalConfigService.cc, defaultURL; cms-sw/cms-common cmsset_default.sh.
gwms_bosco_siteconf_shim() {
    local path count=0
    mkdir -p "$1" && ln -sfn .. "$1/SITECONF" || return 1
    for path in /cvmfs/cms.cern.ch/*; do
        [[ ${path##*/} != SITECONF && $count -lt 4096 ]] || continue
        ln -sfn "$path" "$1/${path##*/}" || return 1
        count=$((count + 1))
    done
}

# gwms_bosco_siteconf_parrot: have parrot, if payloads run under it, show the site's folder where releases look for it
# that know no SITECONFIG_PATH. Nothing but `local`, or the other sites of CVMFS were hidden.
gwms_bosco_siteconf_parrot() {
    local shown=/cvmfs/cms.cern.ch/SITECONF/local prefix=$GWMS_BOSCO_DIR/prefix line skip=no
    [[ -s $prefix ]] && grep -qx -e -- "$prefix" || return 1
    [[ ,$(gwms_bosco_state_read cvmfs.conf REPOSITORIES), == *,cms.cern.ch,* ]] || return 1
    cp "$prefix" "$prefix.before" || return 1
    while IFS= read -r line; do
        # That of an earlier run.
        [[ $line != "$shown="* ]] || { skip=no; continue; }
        [[ $skip == no ]] || printf '%s\n' -M
        skip=no
        case $line in
            -M) skip=yes ;;
            --) printf '%s\n' -M "$shown=$GWMS_BOSCO_DIR/siteconf/SITECONF/local" -- ;;
            *) printf '%s\n' "$line" ;;
        esac
    done <"$prefix.before" >"$prefix.new" && mv -f "$prefix.new" "$prefix"
}
