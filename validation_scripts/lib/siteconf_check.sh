# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Is a SITECONF whole, as the programs of a payload will read it? By awk, as most nodes have no XML program; where there
# is xmllint, it is asked too.
# gwms-bosco-include: lib/siteconf_storage.sh

# Longer is no site-local-config.xml and no storage.json; the factory takes no more either.
GWMS_BOSCO_SITECONF_MAX_BYTES=262144

# gwms_bosco_siteconf_program: awk; input a site-local-config.xml. Exit 0 and lines `site NAME`, `subsite NAME`,
# `sibling NAME`, `catalog SITE VOLUME PROTOCOL` and `method SITE VOLUME PROTOCOL` (SITE `.` for the own one), `fault TEXT`
# for what is whole but fails a reader; else 1 and a last line `line N: reason`. Stricter than XML: no document type, no
# CDATA, no entities but the five of XML. Its records end at `>` and its tags are short, so that the time grows with the
# length and not with its square.
# Source of what is asked: cms-sw/cmssw FWCore/Services/src/SiteLocalConfigService.cc; dmwm/WMCore
# src/python/WMCore/Storage/SiteLocalConfig.py.
gwms_bosco_siteconf_program() {
    cat <<'PROGRAM'
function fail(text) { failed = 1; print "line " line ": " text; exit 1 }
# The first one is told; there may be one in every few bytes.
function fault(text) { if (!faults++) print "fault site-local-config.xml line " line ": " text }
function newlines(text) { return gsub(/\n/, "\n", text) }
function plain(what, value) {
    if (value !~ /^[A-Za-z0-9][A-Za-z0-9_.-]*$/ || length(value) > 64) fail("the name of a " what " is none")
    print what, value
}
function comment_part(text) {
    if (substr(text, length(text) - 1) == "--" && length(text) > 1) {
        commented = 0
        text = substr(text, 1, length(text) - 2)
        if (text ~ /-$/) fail("a comment ends with three dashes")
    }
    if (index(text, "--")) fail("two dashes in a comment")
}
function attributes(name, rest,    piece, at, key, value, others) {
    split("", attribute)
    while (match(rest, /^[ \t\r\n]+[A-Za-z_][A-Za-z0-9_.:-]*[ \t\r\n]*=[ \t\r\n]*("[^"]*"|'[^']*')/)) {
        piece = substr(rest, 1, RLENGTH)
        rest = substr(rest, RLENGTH + 1)
        at = index(piece, "=")
        key = substr(piece, 1, at - 1)
        gsub(/[ \t\r\n]/, "", key)
        value = substr(piece, at + 1)
        sub(/^[ \t\r\n]+/, "", value)
        value = substr(value, 2, length(value) - 2)
        others = value
        gsub(/&(lt|gt|amp|quot|apos|#[0-9]+|#x[0-9A-Fa-f]+);/, "", others)
        if (index(value, "<") || index(others, "&")) fail("an attribute of <" name "> has a bare & or <")
        if (key in attribute) fail("<" name "> has an attribute twice")
        attribute[key] = value
    }
    if (rest ~ /[^ \t\r\n]/) fail("cannot read the attributes of <" name ">")
}
function place(kind) {
    if (++places > 100) fail("more than 100 catalogs and methods")
    if (kind == "method" && "site" in attribute && attribute["site"] == "") fault("a method has an empty site")
    if (attribute["volume"] !~ /^[^ \t\r\n]+$/ || attribute["protocol"] !~ /^[^ \t\r\n]+$/) {
        fault("a " kind " has no volume or no protocol")
    } else {
        print kind, attribute["site"] == "" ? "." : attribute["site"], attribute["volume"], attribute["protocol"]
    }
}
function needs(path,    url) {
    had[path] = 1
    url = attribute["url"]
    if (path == "event-data/catalog" && url !~ /^trivialcatalog_file:\/[^? \t\r\n]+\?protocol=[^&?= \t\r\n]+(&[^ \t\r\n]*)?$/)
        fault("a catalog of event-data is no URL trivialcatalog_file:PATH with a protocol")
    if (path == "calib-data/frontier-connect/server" && url !~ /^https?:\/\/[^ \t\r\n()\/]+\/[^ \t\r\n()\/]+[^ \t\r\n()]*$/)
        fault("a server of Frontier is no URL with a servlet")
    if (path ~ /^calib-data\/frontier-connect\/(backup)?proxy$/ && url !~ /^https?:\/\/[^ \t\r\n()\/]+\/?$/)
        fault("a proxy is no http://HOST:PORT")
    if (path ~ /^stage-out\/[^\/]+$/ && path != "stage-out/method") fault("stage-out has something else than methods")
    if (path == "data-access/catalog") place("catalog")
    if (path == "stage-out/method") place("method")
}
function meaning(name,    path, i) {
    if (depth >= 2 && stack[2] == "site") {
        for (i = 3; i <= depth; i++) path = path stack[i] "/"
        needs(path name)
    }
    if (depth == 0 && name != "site-local-config") fail("the outermost element is <" name ">")
    if (depth && stack[depth] == "subsite") fail("<subsite> is not empty")
    if (depth == 1 && name == "site") {
        if (sites++) fail("a second <site>")
        if (!("name" in attribute)) fail("<site> has no name")
        plain("site", attribute["name"])
    }
    if (depth == 2 && name == "subsite") plain("subsite", attribute["name"])
    if (name == "frontier-connect" || name == "local-connect") connects++
    if ((stack[depth] == "data-access" && name == "catalog") || (stack[depth] == "stage-out" && name == "method")) {
        if (attribute["site"] != "") plain("sibling", attribute["site"])
    }
}
function element(tag,    name, closed) {
    if (length(tag) > 16384) fail("a tag of more than 16384 bytes")
    if (substr(tag, 1, 1) == "/") {
        name = substr(tag, 2)
        sub(/[ \t\r\n]+$/, "", name)
        if (!depth || stack[depth] != name) fail("an end tag closes another element than the one that is open")
        depth--
        return
    }
    closed = sub(/\/$/, "", tag)
    if (!match(tag, /^[A-Za-z_][A-Za-z0-9_.-]*/)) fail("a tag has no name")
    name = substr(tag, 1, RLENGTH)
    if (depth == 0 && roots++) fail("a second outermost element")
    attributes(name, substr(tag, RLENGTH + 1))
    meaning(name)
    if (closed) return
    if (depth == 32) fail("elements 32 deep")
    stack[++depth] = name
}
BEGIN { RS = ">"; line = 1; depth = roots = sites = connects = commented = failed = 0 }
{
    if (commented) {
        comment_part($0)
        line += newlines($0)
        next
    }
    if (NR == 1) sub(/^\357\273\277/, "")
    at = index($0, "<")
    before = at ? substr($0, 1, at - 1) : $0
    if (depth == 0 && before ~ /[^ \t\r\n]/) fail("text outside of the outermost element")
    line += newlines(before)
    if (!at) next
    tag = substr($0, at + 1)
    if (substr(tag, 1, 3) == "!--") {
        commented = 1
        comment_part(substr(tag, 4))
    } else if (substr(tag, 1, 1) == "!") {
        fail("a document type or CDATA")
    } else if (substr(tag, 1, 1) == "?") {
        if (NR > 1 || before != "" || tag !~ /^\?xml[ \t\r\n][^<]*\?$/) fail("a processing instruction")
    } else {
        element(tag)
    }
    line += newlines(tag)
}
END {
    if (failed) exit 1
    if (commented) fail("a comment has no end")
    if (depth) fail("<" stack[depth] "> has no end")
    if (!sites) fail("no <site>")
    if (connects != 1) fail("not exactly one of <frontier-connect> and <local-connect>, but " connects)
    count = split("event-data/catalog data-access/catalog local-stage-out stage-out/method", needed, " ")
    if (!("calib-data/local-connect" in had)) needed[++count] = "calib-data/frontier-connect/server"
    for (i = 1; i <= count; i++) if (!(needed[i] in had)) print "fault site-local-config.xml has no " needed[i]
}
PROGRAM
}

# gwms_bosco_siteconf_file FILE NAME: 0 when it is a readable file of a sensible size; else 1 and a reason.
gwms_bosco_siteconf_file() {
    local size
    [[ -f $1 && -r $1 ]] || { echo "$2 is not there or cannot be read"; return 1; }
    size=$(wc -c <"$1") || return 1
    [[ $size -gt 0 && $size -le $GWMS_BOSCO_SITECONF_MAX_BYTES ]] || { echo "$2 has $((size)) bytes"; return 1; }
}

# gwms_bosco_siteconf_xml FILE: look at one site-local-config.xml. 0 and the program's lines, or 1 and a reason.
gwms_bosco_siteconf_xml() {
    local LC_ALL=C found name=site-local-config.xml
    gwms_bosco_siteconf_file "$1" "$name" || return 1
    [[ $(tr -d '\11\12\15\40-\377' <"$1" | wc -c) -eq 0 ]] || { echo "$name has control characters"; return 1; }
    # awk cannot tell a tag that is cut off there from a whole one.
    [[ $(tail -c 4096 "$1" | tr -d ' \11\12\15') == *'>' ]] || { echo "$name is cut off"; return 1; }
    if ! found=$(LC_ALL=C awk "$(gwms_bosco_siteconf_program)" "$1" 2>&1); then
        echo "$name $(gwms_bosco_report_safe "${found##*$'\n'}" 120)"
        return 1
    fi
    if command -v xmllint >/dev/null 2>&1 && ! xmllint --nonet --noout "$1" >/dev/null 2>&1; then
        echo "$name is not well-formed, says xmllint"
        return 1
    fi
    printf '%s\n' "$found"
}

# gwms_bosco_siteconf_fact LINES NAME: the first value of that name out of what the program has printed.
gwms_bosco_siteconf_fact() {
    sed -n "/^$2 /{s/^$2 //p;q;}" <<<"$1"
}

# gwms_bosco_siteconf_siblings LINES: the sites it refers to, each once; perhaps its own too.
gwms_bosco_siteconf_siblings() {
    sed -n 's/^sibling //p' <<<"$1" | sort -u
}

# gwms_bosco_siteconf_check FOLDER SITE SUBSITE: look at what SITECONFIG_PATH=FOLDER leads to; SITE and SUBSITE are whose
# it must be, empty for any. 0 and the lines of both programs, or 1 and a reason. Readers look for storage.json from the
# folder's physical path, so a link that leads out of a tree loses the other sites.
# Source: cms-sw/cmssw FWCore/Catalog/src/StorageUtils (canonical path); issue 42801 there.
gwms_bosco_siteconf_check() {
    local found real name other places
    found=$(gwms_bosco_siteconf_xml "$1/JobConfig/site-local-config.xml") || { echo "$found"; return 1; }
    real=$(cd -P "$1" 2>/dev/null && pwd -P) || { echo 'the folder cannot be entered'; return 1; }
    name=$(gwms_bosco_siteconf_fact "$found" site)
    [[ -z $2 || $name == "$2" ]] || { echo "it is of site $name and not of $2"; return 1; }
    other=$(gwms_bosco_siteconf_fact "$found" subsite)
    [[ -z $3 || $other == "$3" ]] || { echo "it is of subsite ${other:-none} and not of $3"; return 1; }
    [[ -z $other ]] || real=${real%/*}
    places=$(gwms_bosco_siteconf_storage "$real/storage.json" storage.json "$name") || { echo "$places"; return 1; }
    found+=$'\n'$places
    for other in $(gwms_bosco_siteconf_siblings "$found"); do
        [[ $other != "$name" ]] || continue
        places=$(gwms_bosco_siteconf_storage "${real%/*}/$other/storage.json" "$other/storage.json" "$other") ||
            { echo "$places"; return 1; }
        found+=$'\n'$places
    done
    printf '%s\n' "$found"
}

# gwms_bosco_siteconf_healthy LINES: do all readers find what they insist on? LINES are those of gwms_bosco_siteconf_check.
# 0, or 1 and a reason. Asked of a node's SITECONF, which nobody has looked at; that of an entry is what the site file says.
gwms_bosco_siteconf_healthy() {
    local LC_ALL=C lines=$'\n'$1$'\n' own kind site volume protocol place writable=no
    own=$(gwms_bosco_siteconf_fact "$1" site)
    place=$(gwms_bosco_siteconf_fact "$1" fault)
    [[ -z $place ]] || { gwms_bosco_report_safe "$place" 160; return 1; }
    while read -r kind site volume protocol; do
        [[ $site != . ]] || site=$own
        place="$site $volume $protocol"
        if [[ $lines != *$'\n'"place $place "* ]]; then
            echo "$kind $(gwms_bosco_report_safe "$place" 100) is not in storage.json"
            return 1
        fi
        [[ $kind == method ]] || continue
        # WMCore refuses all when one lacks the key, and skips those whose rse is null.
        if [[ $lines == *$'\n'"place $place no"$'\n'* ]]; then
            echo "method $(gwms_bosco_report_safe "$place" 100) has a volume without the key rse"
            return 1
        fi
        [[ $lines != *$'\n'"place $place yes"$'\n'* ]] || writable=yes
    done < <(grep -E '^(catalog|method) ' <<<"$1")
    [[ $writable == yes ]] || { echo 'no method has a volume with an rse'; return 1; }
}
