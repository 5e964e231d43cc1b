# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Is a SITECONF whole, as the programs of a payload will read it? By awk, as most nodes have no XML program; where there
# is xmllint, it is asked too.

# Longer is no site-local-config.xml and no storage.json.
GWMS_BOSCO_SITECONF_MAX_BYTES=1048576

# gwms_bosco_siteconf_program: awk; input a site-local-config.xml. Exit 0 and lines `site NAME`, `subsite NAME`,
# `sibling NAME`; else 1 and a last line `line N: reason`. Stricter than XML: no document type, no CDATA, no entities but
# the five of XML. Its records end at `>`, so that the time grows with the length and not with its square.
# Source of what is asked: cms-sw/cmssw FWCore/Services/src/SiteLocalConfigService.cc.
gwms_bosco_siteconf_program() {
    cat <<'PROGRAM'
function fail(text) { failed = 1; print "line " line ": " text; exit 1 }
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
function meaning(name) {
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

# gwms_bosco_siteconf_storage FILE NAME: a storage.json must be a list; more is not read here.
gwms_bosco_siteconf_storage() {
    gwms_bosco_siteconf_file "$1" "$2" || return 1
    [[ $(head -c 4096 "$1" | tr -d ' \11\12\15\0' | head -c 1) == '[' &&
        $(tail -c 4096 "$1" | tr -d ' \11\12\15\0' | tail -c 1) == ']' ]] || { echo "$2 is no JSON list"; return 1; }
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
# it must be, empty for any. 0 and the program's lines, or 1 and a reason. Readers look for storage.json from the
# folder's physical path, so a link that leads out of a tree loses the other sites.
# Source: cms-sw/cmssw FWCore/Catalog/src/StorageUtils (canonical path); issue 42801 there.
gwms_bosco_siteconf_check() {
    local found real name other
    found=$(gwms_bosco_siteconf_xml "$1/JobConfig/site-local-config.xml") || { echo "$found"; return 1; }
    real=$(cd -P "$1" 2>/dev/null && pwd -P) || { echo 'the folder cannot be entered'; return 1; }
    name=$(gwms_bosco_siteconf_fact "$found" site)
    [[ -z $2 || $name == "$2" ]] || { echo "it is of site $name and not of $2"; return 1; }
    other=$(gwms_bosco_siteconf_fact "$found" subsite)
    [[ -z $3 || $other == "$3" ]] || { echo "it is of subsite ${other:-none} and not of $3"; return 1; }
    [[ -z $other ]] || real=${real%/*}
    gwms_bosco_siteconf_storage "$real/storage.json" storage.json || return 1
    for other in $(gwms_bosco_siteconf_siblings "$found"); do
        [[ $other != "$name" ]] || continue
        gwms_bosco_siteconf_storage "${real%/*}/$other/storage.json" "$other/storage.json" || return 1
    done
    printf '%s\n' "$found"
}
