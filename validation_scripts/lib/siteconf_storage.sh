# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Is a storage.json whole, and what places does it name? By awk, as nodes have no JSON program.
# Needs: lib/report.sh lib/siteconf_check.sh

# gwms_bosco_siteconf_storage_program: awk; input a storage.json, `file` what to call it, `own` its site. Exit 0 and lines
# `place SITE VOLUME PROTOCOL RSE` (RSE is yes, null or no) for that site, `fault TEXT` for what is JSON but fails a
# reader; else 1 and a last line `line N: reason`. Its records end at `"`, so that every other one is a text.
# Source of what is asked: cms-sw/cmssw FWCore/Catalog/src/FileLocator.cc; dmwm/WMCore
# src/python/WMCore/Storage/RucioFileCatalog.py.
gwms_bosco_siteconf_storage_program() {
    cat <<'PROGRAM'
function fail(reason) { failed = 1; print "line " line ": " reason; exit 1 }
# The first one is told; there may be one in every few bytes.
function fault(reason) { if (!faults++) print "fault " file " line " line ": " reason }
function near(word) { fail("no JSON near " substr(word, 1, 20)) }
# `want` has a letter for each thing that may come: k a key, v a value, else itself.
function after() { want = !depth ? "" : stack[depth] == "{" ? ",}" : ",]" }
function opened(kind) {
    if (!index(want, "v")) near(kind)
    if (depth == 1 && kind != "{") fault("a volume is no object")
    if (depth == 1) { site = volume = ""; rse = "no"; listed = names = 0 }
    if (depth == 2 && kind == "[" && key[2] == "protocols") listed = 1
    if (depth == 3 && key[2] == "protocols") protocol = ways = ""
    if (depth == 5 && kind == "{" && key[2] == "protocols" && key[4] == "rules") ways = 1
    if (depth == 16) fail("lists and objects 16 deep")
    stack[++depth] = kind
    key[depth] = ""
    want = kind == "{" ? "k}" : "v]"
}
function closed(kind,    i) {
    if (!index(want, kind)) near(kind)
    if (depth == 4 && key[2] == "protocols") {
        if (protocol == "") fault("a protocol has no name")
        if (ways == "") fault("a protocol has neither prefix nor rules")
        protocols[++names] = protocol
    }
    if (depth == 2) {
        if (site == "" || volume == "" || !listed) fault("a volume has no site, no name or no protocols")
        for (i = 1; i <= names; i++) {
            if (site != own || index(volume protocols[i], " ")) continue
            if (length(volume protocols[i]) > 256) fail("a volume or protocol of more than 256 letters")
            print "place", site, volume, protocols[i], rse
        }
    }
    depth--
    after()
}
function scalar(word, quoted) {
    if (!index(want, "v")) near(word)
    if (depth == 1) fault("a volume is no object")
    if (depth == 2 && quoted && key[2] == "site") site = word
    if (depth == 2 && quoted && key[2] == "volume") volume = word
    if (depth == 2 && key[2] == "rse") rse = quoted ? "yes" : "null"
    if (depth == 4 && quoted && key[4] == "protocol") protocol = word
    if (depth == 4 && quoted && key[4] == "prefix" && word != "") ways = 1
    after()
}
function text(word,    rest) {
    rest = word
    gsub(/\\(["\\\/bfnrt]|u[0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f][0-9A-Fa-f])/, "", rest)
    if (rest ~ /[\\\t\r\n]/) fail("a text has a backslash or a line break")
    if (index(want, "k")) {
        key[depth] = word
        want = ":"
    } else {
        scalar(word, 1)
    }
}
function between(rest,    word, taken) {
    if (length(rest) > 16384) fail("more than 16384 bytes without a text")
    while (rest != "") {
        taken = match(rest, /^([ \t\r\n]+|[^][{}:, \t\r\n]+)/) ? RLENGTH : 1
        word = substr(rest, 1, taken)
        rest = substr(rest, taken + 1)
        if (word ~ /^[ \t\r\n]/) {
            line += gsub(/\n/, "", word)
        } else if (word == "[" || word == "{") {
            opened(word)
        } else if (word == "]" || word == "}") {
            closed(word)
        } else if (word == ",") {
            if (!index(want, word)) near(word)
            want = stack[depth] == "{" ? "k" : "v"
        } else if (word == ":") {
            if (want != word) near(word)
            want = "v"
        } else if (word ~ /^(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?)$/) {
            scalar(word, 0)
        } else {
            near(word)
        }
    }
}
BEGIN { RS = "\""; line = 1; want = "v"; depth = failed = inside = 0; held = "" }
inside {
    held = held $0
    if (length(held) > 16384) fail("a text of more than 16384 bytes")
    for (at = length(held); at && substr(held, at, 1) == "\\"; at--) {}
    if ((length(held) - at) % 2) {
        held = held "\""
        next
    }
    text(held)
    inside = 0
    held = ""
    next
}
{
    between($0)
    inside = 1
}
END {
    if (failed) exit 1
    if (want != "") fail("the list has no end")
}
PROGRAM
}

# gwms_bosco_siteconf_storage FILE NAME SITE: look at one storage.json, called NAME, for its places of SITE. 0 and the
# program's lines, or 1 and a reason.
gwms_bosco_siteconf_storage() {
    local LC_ALL=C found
    gwms_bosco_siteconf_file "$1" "$2" || return 1
    [[ $(tr -d '\11\12\15\40-\377' <"$1" | wc -c) -eq 0 ]] || { echo "$2 has control characters"; return 1; }
    [[ $(head -c 4096 "$1" | tr -d ' \11\12\15\0' | head -c 1) == '[' &&
        $(tail -c 4096 "$1" | tr -d ' \11\12\15\0' | tail -c 1) == ']' ]] || { echo "$2 is no JSON list"; return 1; }
    if ! found=$(LC_ALL=C awk -v "file=$2" -v "own=$3" "$(gwms_bosco_siteconf_storage_program)" "$1" 2>&1); then
        echo "$2 $(gwms_bosco_report_safe "${found##*$'\n'}" 120)"
        return 1
    fi
    printf '%s\n' "$found"
}
