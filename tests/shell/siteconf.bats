#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

load node
bats_require_minimum_version 1.5.0

setup() {
    pilot_folder
    state_folder
    load_libraries siteconf_storage siteconf_check siteconf
    mkdir -p archive/SITECONF/T3_XX_Here/JobConfig archive/SITECONF/T1_YY_Far
    ln -s T3_XX_Here archive/SITECONF/local
    echo '[ {"site": "T3_XX_Here"} ]' >archive/SITECONF/T3_XX_Here/storage.json
    echo '[]' >archive/SITECONF/T1_YY_Far/storage.json
    config=archive/SITECONF/T3_XX_Here/JobConfig/site-local-config.xml
    cat >"$config.head" <<'XML'
<?xml version="1.0" encoding="UTF-8"?>
<site-local-config>
  <site name="T3_XX_Here">
    <!-- > is <b> no tag here -->
    <data-access>
      <catalog volume="A" protocol="XRootD"/>
      <catalog site="T1_YY_Far" volume="B" protocol="XRootD"/>
    </data-access>
    <calib-data>
      <frontier-connect>
        <load balance='proxies'/>
XML
    cat >"$config.tail" <<'XML'
        <server url="http://frontier.example.org:8000/FrontierProd"/>
      </frontier-connect>
    </calib-data>
  </site>
</site-local-config>
XML
    whole=$PWD/gwms_bosco/siteconf/SITECONF/local/JobConfig/site-local-config.xml
    awks=(mawk 'busybox awk' gawk 'original-awk')
}

# node_tree: node/SITECONF, whole and healthy, as a site has it.
node_tree() {
    mkdir -p node
    cp -R archive/SITECONF node/
    cat "$config.head" "$config.tail" >"node/${config#archive/}"
    rm "node/${config#archive/}".*
    sed -i '/<data-access>/i <event-data>\
<catalog url="trivialcatalog_file:/x/storage.xml?protocol=xrootd\&amp;y=z"/>\
</event-data>\
<local-stage-out>\
</local-stage-out>\
<stage-out>\
<method volume="A" protocol="WebDAV" command="gfal2"/>\
<method site="T1_YY_Far" volume="B" protocol="XRootD"/>\
</stage-out>' "node/${config#archive/}"
    cat >node/SITECONF/T3_XX_Here/storage.json <<'JSON'
[
  {"site": "T3_XX_Here", "volume": "A", "rse": "T3_XX_Here", "fts": [],
   "protocols": [
     {"protocol": "XRootD", "prefix": "root://a.example.org//\"\\\u0041"},
     {"protocol": "WebDAV", "rules": [{"lfn": "/+store/(.*)", "pfn": "davs://a/$1"}]}
   ]}
]
JSON
    cat >node/SITECONF/T1_YY_Far/storage.json <<'JSON'
[ {"protocols": [{"protocol": "XRootD", "prefix": "root://b/"}], "volume": "B", "site": "T1_YY_Far", "rse": null} ]
JSON
}

# document TEXT: a whole site-local-config.xml with TEXT within <site>.
document() {
    printf '<site-local-config><site name="T3_XX_Here">%s<frontier-connect/></site></site-local-config>\n' "$1"
}

@test "unpack joins the pieces, and its tree has neither of them" {
    gwms_bosco_siteconf_unpack archive T3_XX_Here ''
    cat "$config.head" "$config.tail" | cmp - "$whole"
    [ "$(readlink gwms_bosco/siteconf/SITECONF/local)" = T3_XX_Here ]
    [ -z "$(find gwms_bosco/siteconf/SITECONF -name '*.head' -o -name '*.tail')" ]
    # Again: as a second run does.
    gwms_bosco_siteconf_unpack archive T3_XX_Here ''
    cat "$config.head" "$config.tail" | cmp - "$whole"
}

@test "unpack names the catalog of old elements where the tree is" {
    sed -i 's,<data-access>,<event-data><catalog url="trivialcatalog_file:/etc/cvmfs/SITECONF/T3_XX_Here/x?protocol=a"/>\
        <catalog url="trivialcatalog_file:///etc/cvmfs/SITECONF/T3_XX_Here/y"/>\
        <catalog url="trivialcatalog_file:/cvmfs/a/etc/cvmfs/SITECONF/z"/></event-data>&,' "$config.head"
    gwms_bosco_siteconf_unpack archive T3_XX_Here ''
    tree=$PWD/gwms_bosco/siteconf/SITECONF
    [ "$(grep -o 'trivialcatalog_file:[^"]*' "$whole")" = "trivialcatalog_file:$tree/T3_XX_Here/x?protocol=a
trivialcatalog_file:$tree/T3_XX_Here/y
trivialcatalog_file:/cvmfs/a/etc/cvmfs/SITECONF/z" ]
}

@test "write puts the found proxies between the pieces, in order" {
    gwms_bosco_siteconf_unpack archive T3_XX_Here ''
    printf '%s\n' STATE=main 'FRONTIER=http://a.example.org:3128,http://[2001:db8::1]:3128' BACKUPS=http://b.example.org:3128 \
        >gwms_bosco/web_proxy.conf
    gwms_bosco_siteconf_write
    {
        cat "$config.head"
        printf '        <%s url="%s"/>\n' proxy http://a.example.org:3128 proxy 'http://[2001:db8::1]:3128' \
            backupproxy http://b.example.org:3128
        cat "$config.tail"
    } | cmp - "$whole"
    : >gwms_bosco/web_proxy.conf
    gwms_bosco_siteconf_write
    cat "$config.head" "$config.tail" | cmp - "$whole"
}

@test "write refuses what is no URL of a web proxy, and the old file stays" {
    gwms_bosco_siteconf_unpack archive T3_XX_Here ''
    before=$(sha256sum "$whole")
    # shellcheck disable=SC2016 # not to be expanded
    for value in 'http://a b:1' 'http://a:1"/><x y="' "http://a:1'" 'http://$(touch injected):1' 'http://`touch injected`:1' \
        'http://a:1)(serverurl=http://evil' 'http://a:1&amp;' '<proxy/>' 'http://a:99999' 'http://u:p@a:1' 'ftp://a:1' \
        'http://a:1,,http://b:1' 'DIRECT' 'http://a:1/../x' $'http://a:1\r' $'http://a:1\001' "http://$(printf 'a%.0s' {1..300}):1"; do
        for key in FRONTIER BACKUPS; do
            printf '%s=%s\n' "$key" "$value" >gwms_bosco/web_proxy.conf
            run gwms_bosco_siteconf_write
            [ "$status" = 1 ]
            [[ $output == "$key of web_proxy.conf has something that is no URL"* ]]
            [ "${#output}" -lt 160 ]
        done
    done
    head -c 65536 /dev/zero | tr '\0' x | sed 's/^/FRONTIER=/;s/$/\n/' >gwms_bosco/web_proxy.conf
    run -1 gwms_bosco_siteconf_write
    [ "${#output}" -lt 160 ]
    { printf FRONTIER=; printf 'http://a:1,%.0s' {1..64}; echo http://a:1; } >gwms_bosco/web_proxy.conf
    run -1 gwms_bosco_siteconf_write
    [[ $output == *'more than 64 URLs' ]]
    [ ! -e injected ]
    [ "$(sha256sum "$whole")" = "$before" ]
}

@test "write: of a value with a line break only the first line counts, and the rest is no value" {
    gwms_bosco_siteconf_unpack archive T3_XX_Here ''
    printf 'FRONTIER=http://a:1\n$(touch injected)\n"/><x\n' >gwms_bosco/web_proxy.conf
    gwms_bosco_siteconf_write
    [ "$(grep -c '<proxy url="http://a:1"/>' "$whole")" = 1 ]
    [ ! -e injected ]
}

@test "write does nothing without pieces" {
    gwms_bosco_siteconf_write
    [ ! -e gwms_bosco/siteconf ]
}

@test "killed at any command while it writes, write leaves a whole file, old or new" {
    gwms_bosco_siteconf_unpack archive T3_XX_Here ''
    old=$(sha256sum <"$whole")
    echo FRONTIER=http://a:1 >gwms_bosco/web_proxy.conf
    gwms_bosco_siteconf_write
    new=$(sha256sum <"$whole")
    seen=''
    for step in {1..60}; do
        : >gwms_bosco/web_proxy.conf
        gwms_bosco_siteconf_write
        echo FRONTIER=http://a:1 >gwms_bosco/web_proxy.conf
        (
            count=0
            # shellcheck disable=SC2317 # by the trap
            die() { count=$((count + 1)); [ "$count" != "$step" ] || kill -9 "$BASHPID"; }
            set -T
            trap die DEBUG
            gwms_bosco_siteconf_write
        ) 2>/dev/null || :
        now=$(sha256sum <"$whole")
        [ "$now" = "$old" ] || [ "$now" = "$new" ]
        [[ $now == "$old" ]] && seen+=o || seen+=n
    done
    # Both were met, else the kills were all early or all late.
    [[ $seen == o*n ]]
}

@test "unpack refuses an archive that is broken, and says where" {
    for row in "rm $config.tail|half of" "rm $config.head|half of" "rm -r archive/SITECONF/T1_YY_Far|T1_YY_Far/storage.json is not there" \
        "rm archive/SITECONF/T3_XX_Here/storage.json|storage.json is not there" "sed -i s/T3_XX_Here/T2_ZZ/ $config.head|of site T2_ZZ and not" \
        "rm $config.head $config.tail|site-local-config.xml is not there" "sed -i s,/calib-data,x, $config.tail|line 15:"; do
        cp -a archive archive.whole
        ${row%|*}
        run -1 gwms_bosco_siteconf_unpack archive T3_XX_Here ''
        [[ $output == *"${row#*|}"* ]]
        rm -rf archive
        mv archive.whole archive
    done
    run -1 gwms_bosco_siteconf_unpack archive T2_ZZ_Other ''
    run -1 gwms_bosco_siteconf_unpack archive T3_XX_Here Sub
}

@test "a subsite has the site's storage.json, and local leads to it" {
    mkdir -p archive/SITECONF/T3_XX_Here/Sub
    mv archive/SITECONF/T3_XX_Here/JobConfig archive/SITECONF/T3_XX_Here/Sub/
    sed -i 's,<data-access>,<subsite name="Sub"/>&,' archive/SITECONF/T3_XX_Here/Sub/JobConfig/site-local-config.xml.head
    gwms_bosco_siteconf_unpack archive T3_XX_Here Sub
    [ "$(readlink gwms_bosco/siteconf/SITECONF/local)" = T3_XX_Here/Sub ]
    [ -s "$whole" ]
    run -1 gwms_bosco_siteconf_check gwms_bosco/siteconf/SITECONF/local T3_XX_Here Other
    [ "$output" = 'it is of subsite Sub and not of Other' ]
}

# Each awk reads the same.
@test "the program takes what is whole and refuses what is not, with every awk" {
    cases=(
        "$(document '')|"
        "$(document '<subsite name="A"/>')|"
        "$(document $'<subsite name="A">\n</subsite>')|"
        "$(document '<a b="&lt;&#65;&#x41;" c='"'"'"'"'"'/>text')|"
        "<!-- <x> -->$(document '<!-- a > b <c -->')<!-- end -->|"
        "$(document '<subsite name="A"><x/></subsite>')|<subsite> is not empty"
        "$(document '<a>')|line 1: an end tag closes another"
        "$(document $'\n\n<a b="1" b="2"/>')|line 3: <a> has an attribute twice"
        "$(document '<a b=1/>')|cannot read the attributes"
        "$(document '<a b="&x;"/>')|a bare & or <"
        "$(document '<a b="<"/>')|a bare & or <"
        "$(document '<!-- a -- b -->')|two dashes"
        "$(document '<![CDATA[x]]>')|a document type or CDATA"
        "$(document '<?php ?>')|a processing instruction"
        "$(document '<local-connect/>')|but 2"
        "$(document '<site name="x"/>')|"
        "$(document '')$(document '')|a second outermost"
        "x$(document '')|text outside"
        "<!DOCTYPE a [<!ENTITY b \"c\">]>$(document '')|a document type"
        '<site-local-config></site-local-config>|no <site>'
        '<site-local-config><site/></site-local-config>|no name'
        '<site-local-config><site name="a b"/></site-local-config>|the name of a site is none'
        '<site-local-config><site name="a"/><site name="b"/></site-local-config>|a second <site>'
        '<site-local-config><site name="a"/></site-local-config>|but 0'
        '<site-local-config><site name="a"><frontier-connect>|<frontier-connect> has no end'
        '<storage-mapping/>|the outermost element is <storage-mapping>'
        '<a <b>|'
        '<!-- x|a comment has no end'
    )
    tried=0
    for tool in "${awks[@]}"; do
        command -v "${tool%% *}" >/dev/null || continue
        tried=$((tried + 1))
        for row in "${cases[@]}"; do
            # shellcheck disable=SC2086 # words
            run $tool "$(gwms_bosco_siteconf_program)" <<<"${row%|*}"
            case $row in
                '<a <b>|') [ "$status" = 1 ] ;;
                *'|') [ "$status" = 0 ] ;;
                *)
                    [ "$status" = 1 ]
                    [[ ${lines[-1]} == "line "* && ${lines[-1]} == *"${row##*|}"* ]]
                    ;;
            esac
        done
    done
    [ "$tried" -ge 2 ]
}

@test "the program's facts: whose it is, and which other sites it needs" {
    document '<subsite name="S"/><data-access><catalog site="T1_A"/><catalog/></data-access><stage-out><method site="T2_B"/></stage-out>' >x.xml
    [ "$(gwms_bosco_siteconf_xml x.xml | sed '/^fault/d')" = $'site T3_XX_Here\nsubsite S\nsibling T1_A\nsibling T2_B' ]
}

@test "xml refuses what is huge, cut off, or has control characters, at once" {
    document '' >x.xml
    gwms_bosco_siteconf_xml x.xml
    printf '%s' '<site-local-config><site name="a"><frontier-connect/></site></site-local-config' >x.xml
    run -1 gwms_bosco_siteconf_xml x.xml
    [[ $output == *'cut off' ]]
    document $'\001' >x.xml
    run -1 gwms_bosco_siteconf_xml x.xml
    [[ $output == *'control characters' ]]
    : >x.xml
    run -1 gwms_bosco_siteconf_xml x.xml
    [[ $output == *' 0 bytes' ]]
    head -c 262145 /dev/zero | tr '\0' '>' >x.xml
    run -1 gwms_bosco_siteconf_xml x.xml
    [[ $output == *' 262145 bytes' ]]
    SECONDS=0
    document "$(printf '<a b="c"/>%.0s' {1..26000})" >x.xml
    gwms_bosco_siteconf_xml x.xml
    document "$(printf '<a>%.0s' {1..60000})" >x.xml
    run -1 gwms_bosco_siteconf_xml x.xml
    [[ $output == *'32 deep' ]]
    document "<a $(printf ' a%s="b"' {1..24000})/>" >x.xml
    run -1 gwms_bosco_siteconf_xml x.xml
    [[ $output == *'a tag of more than 16384 bytes' ]]
    [ "$SECONDS" -le 3 ]
}

@test "xml takes a tag at the limit, and not one of a byte more" {
    for more in 0 1; do
        document "<a b=\"$(printf '%*s' $((16384 - 7 + more)) '')\"/>" >x.xml
        run gwms_bosco_siteconf_xml x.xml
        [ "$status" = "$more" ]
    done
    [[ $output == *'a tag of more than 16384 bytes' ]]
}

@test "of what fails a reader the first is told, however much there is, and the reader is quick" {
    document "<stage-out>$(printf '<m/>%.0s' {1..60000})</stage-out>" >x.xml
    printf '[%s{}]' "$(printf '1,%.0s' {1..130000})" >x.json
    for tool in "${awks[@]}"; do
        command -v "${tool%% *}" >/dev/null || continue
        # shellcheck disable=SC2086 # words
        eval "awk() { $tool \"\$@\"; }"
        [ "$(gwms_bosco_siteconf_xml x.xml | grep -c '^fault .* line ')" = 1 ]
        gwms_bosco_siteconf_storage x.json x.json a >found || true
        [ "$(wc -c <found)" -lt 1000 ]
    done
}

# Each awk reads the same.
@test "a storage.json is a JSON list from end to end, with every awk" {
    cases=(
        '[]|'
        '[ ]|'
        '[{"a":[1,-0.5e+3,true,false,null,"",{}]}]|'
        '["\"\\\/\b\f\n\r\t\u00e9 , ] } é"]|'
        $'[\n\t1 ,\r\n2]|'
        '[ {"volume": , broken json }}} ]|line 1: no JSON near ,'
        $'[\n1,\n2\n3]|line 4: no JSON near 3'
        '[,]|near ,'
        '[1,]|no JSON near'
        '[1 2]|near 2'
        '["a" "b"]|near b'
        '["a":1]|near :'
        '[{"a"}]|no JSON near'
        '[{"a":}]|no JSON near'
        '[{"a":1,}]|no JSON near'
        '[{1:2}]|near 1'
        '[{"a":1 "b":2}]|near b'
        '[}]|no JSON near'
        '[{]]|no JSON near'
        '[[]|has no end'
        '[]]|no JSON near'
        '[] []|no JSON near'
        '[tru]|near tru'
        '[01]|near 01'
        '[1.]|near 1.'
        '[+1]|near +1'
        '[NaN]|near NaN'
        "['a']|near a"
        '[// x
]|near //'
        '["\x"]|a text has a backslash or a line break'
        '["\u12g4"]|a text has'
        $'["a\nb"]|a text has'
        $'["a\tb"]|a text has'
        '["a]|a text has'
        '{"a":[]}|is no JSON list'
        '[1]x|is no JSON list'
        "[$(printf '[%.0s' {1..40})]|16 deep"
        "[\"$(printf 'a%.0s' {1..16385})\"]|a text of more than 16384 bytes"
        "[$(printf '1,%.0s' {1..9000})1]|more than 16384 bytes without a text"
    )
    tried=0
    for tool in "${awks[@]}"; do
        command -v "${tool%% *}" >/dev/null || continue
        tried=$((tried + 1))
        # shellcheck disable=SC2086 # words
        eval "awk() { $tool \"\$@\"; }"
        for row in "${cases[@]}"; do
            printf '%s\n' "${row%|*}" >x.json
            run gwms_bosco_siteconf_storage x.json storage.json T3_XX_Here
            [ "$status" = "$([[ $row == *'|' ]] && echo 0 || echo 1)" ]
            [[ $output == *"${row##*|}"* ]]
        done
    done
    [ "$tried" -ge 2 ]
    printf '[{"site":"a","volume":"%0256d","protocols":[{"protocol":"c","prefix":"d"}]}]' 0 >x.json
    run -1 gwms_bosco_siteconf_storage x.json storage.json a
    [[ $output == *'a volume or protocol of more than 256 letters' ]]
    printf '[1\0]' >x.json
    run -1 gwms_bosco_siteconf_storage x.json storage.json T3_XX_Here
    [ "$output" = 'storage.json has control characters' ]
}

@test "a storage.json of many small things, or of a few odd ones, is read at once" {
    SECONDS=0
    { printf '['; printf '{"site":"a","volume":"b","protocols":[{"protocol":"c","prefix":"d"}]},%.0s' {1..3600}; echo '{}]'; } >x.json
    gwms_bosco_siteconf_storage x.json storage.json a | grep -c '^place' >count
    [ "$(cat count)" = 3600 ]
    { printf '["'; printf '\\"%.0s' {1..8190}; printf '",'; printf '[],%.0s' {1..5000}; echo '""]'; } >x.json
    gwms_bosco_siteconf_storage x.json storage.json a
    [ "$SECONDS" -le 3 ]
}

@test "the places of a storage.json are those of its own site" {
    node_tree
    [ "$(gwms_bosco_siteconf_storage node/SITECONF/T3_XX_Here/storage.json x T3_XX_Here)" = \
        $'place T3_XX_Here A XRootD yes\nplace T3_XX_Here A WebDAV yes' ]
    [ "$(gwms_bosco_siteconf_storage node/SITECONF/T1_YY_Far/storage.json x T1_YY_Far)" = 'place T1_YY_Far B XRootD null' ]
    [ -z "$(gwms_bosco_siteconf_storage node/SITECONF/T1_YY_Far/storage.json x T3_XX_Here)" ]
}

@test "copy refuses a node's SITECONF in which a reader misses one thing" {
    node_tree
    gwms_bosco_siteconf_copy node/SITECONF/local T3_XX_Here ''
    cp -R node healthy
    # shellcheck disable=SC2034 # by name
    own=SITECONF/T3_XX_Here/JobConfig/site-local-config.xml here=SITECONF/T3_XX_Here/storage.json far=SITECONF/T1_YY_Far/storage.json
    while IFS='|' read -r file change reason; do
        rm -rf node
        cp -R healthy node
        sed -i "$change" "node/${!file}"
        ! cmp -s "node/${!file}" "healthy/${!file}"
        run -1 gwms_bosco_siteconf_copy node/SITECONF/local T3_XX_Here ''
        [[ $output == *"$reason" ]]
    done <<'TABLE'
own|/trivialcatalog/d|site-local-config.xml has no event-data/catalog
own|s/event-data>/event_data>/|site-local-config.xml has no event-data/catalog
own|s/?protocol=xrootd//|site-local-config.xml line 6: a catalog of event-data is no URL trivialcatalog_file:PATH with a protocol
own|/local-stage-out>/d|site-local-config.xml has no local-stage-out
own|/<method/d|site-local-config.xml has no stage-out/method
own|/<catalog .*volume/d|site-local-config.xml has no data-access/catalog
own|/<server/d|site-local-config.xml has no calib-data/frontier-connect/server
own|s/<server url="[^"]*"/<server/|a server of Frontier is no URL with a servlet
own|s,/FrontierProd,,|a server of Frontier is no URL with a servlet
own|s/volume="A" //|line 11: a method has no volume or no protocol
own|s/ protocol="WebDAV"//|line 11: a method has no volume or no protocol
own|s/method site="T1_YY_Far"/method site=""/|a method has an empty site
own|s/<method volume.*/&<x\/>/|stage-out has something else than methods
own|s/<catalog volume="A"/<catalog volume="C"/|catalog T3_XX_Here C XRootD is not in storage.json
own|s/protocol="WebDAV"/protocol="SRMv2"/|method T3_XX_Here A SRMv2 is not in storage.json
own|s/site="T1_YY_Far" volume="B"/site="T1_YY_Far" volume="A"/|T1_YY_Far A XRootD is not in storage.json
here|s/"rse": "T3_XX_Here", //|method T3_XX_Here A WebDAV has a volume without the key rse
here|s/"rse": "T3_XX_Here"/"rse": null/|no method has a volume with an rse
here|s/"site": "T3_XX_Here"/"site": "T3_XX_Other"/|is not in storage.json
here|s/"volume": "A", //|storage.json line 6: a volume has no site, no name or no protocols
here|s/"protocols"/"protocol"/|storage.json line 6: a volume has no site, no name or no protocols
here|s/"protocol": "WebDAV", //|storage.json line 5: a protocol has no name
here|s/"prefix": ".*"/"x": 1/|storage.json line 4: a protocol has neither prefix nor rules
here|s/\[{"lfn.*}\]/[]/|storage.json line 5: a protocol has neither prefix nor rules
here|s/^\[/[ [], /|storage.json line 1: a volume is no object
here|s/davs/"/|storage.json line 5: no JSON near :
far|s/"volume": "B"/"volume": /|T1_YY_Far/storage.json line 1: no JSON near ,
far|s/null}/null/|T1_YY_Far/storage.json line 1: no JSON near
TABLE
}

@test "copy takes a node's SITECONF with a local connection and no Frontier" {
    node_tree
    sed -i '/frontier-connect>/d;/<load/d;s,<server.*,<local-connect><connectString prefix="x"/></local-connect>,' \
        "node/${config#archive/}"
    gwms_bosco_siteconf_copy node/SITECONF/local T3_XX_Here ''
}

# The third of them is only referred to.
@test "copy takes real sites' SITECONF" {
    golden=$REPOSITORY_ROOT/tests/golden/siteconf
    gwms_bosco_siteconf_copy "$golden/T2_FI_HIP" T2_FI_HIP ''
    gwms_bosco_siteconf_copy "$golden/local" T2_CH_CERN ''
}

@test "copy takes a node's SITECONF with what its links lead to, and nothing else" {
    node_tree
    mkdir node/elsewhere node/PhEDEx
    mv node/SITECONF/T3_XX_Here/JobConfig/site-local-config.xml node/
    ln -s ../../../site-local-config.xml node/SITECONF/T3_XX_Here/JobConfig/site-local-config.xml
    ln -s / node/SITECONF/T3_XX_Here/JobConfig/all
    mkfifo node/SITECONF/T3_XX_Here/JobConfig/fifo
    mv node/SITECONF/T1_YY_Far/storage.json node/elsewhere/
    ln -s ../../elsewhere/storage.json node/SITECONF/T1_YY_Far/storage.json
    gwms_bosco_siteconf_copy node/SITECONF/local T3_XX_Here ''
    cmp node/site-local-config.xml "$whole"
    [ -z "$(find gwms_bosco/siteconf -type l ! -name local)" ]
    [ "$(find gwms_bosco/siteconf/SITECONF -type f | wc -l)" = 3 ]
    rm node/SITECONF/local
    ln -s local node/SITECONF/local
    run -1 gwms_bosco_siteconf_copy node/SITECONF/local T3_XX_Here ''
}

@test "check says whose a SITECONF is that is not the site's, and finds a lost neighbour" {
    gwms_bosco_siteconf_unpack archive T3_XX_Here ''
    run -1 gwms_bosco_siteconf_check gwms_bosco/siteconf/SITECONF/local T2_ZZ ''
    [ "$output" = 'it is of site T3_XX_Here and not of T2_ZZ' ]
    # A link out of the tree: other sites are looked for beside what it leads to.
    mkdir -p other
    ln -s "$PWD/other/T3_XX_Here" other.local
    mkdir other/T3_XX_Here
    cp -R gwms_bosco/siteconf/SITECONF/T3_XX_Here other/
    run -1 gwms_bosco_siteconf_check other.local T3_XX_Here ''
    [[ $output == 'T1_YY_Far/storage.json is not there'* ]]
    echo '{}' >gwms_bosco/siteconf/SITECONF/T1_YY_Far/storage.json
    run -1 gwms_bosco_siteconf_check gwms_bosco/siteconf/SITECONF/local '' ''
    [ "$output" = 'T1_YY_Far/storage.json is no JSON list' ]
}

@test "a parrot shows the folder local and no other, once" {
    printf '%s\n' /opt/parrot_run -M /cvmfs=/x -r 'a b' -- >gwms_bosco/prefix
    gwms_bosco_conf_write gwms_bosco/cvmfs.conf MODE mountrepo REPOSITORIES oasis.opensciencegrid.org,cms.cern.ch
    gwms_bosco_siteconf_parrot
    gwms_bosco_siteconf_parrot
    printf '%s\n' /opt/parrot_run -M /cvmfs=/x -r 'a b' \
        -M "/cvmfs/cms.cern.ch/SITECONF/local=$PWD/gwms_bosco/siteconf/SITECONF/local" -- | cmp - gwms_bosco/prefix
    # A container's client has no such list, and an empty one is nobody's.
    printf '%s\n' singularity exec instance://x >gwms_bosco/prefix
    run -1 gwms_bosco_siteconf_parrot
    : >gwms_bosco/prefix
    run -1 gwms_bosco_siteconf_parrot
}

@test "the job wrapper's fragment hands SITECONFIG_PATH to a container only where its environment is emptied" {
    { printf '#!/bin/sh\n' && cat "$LIB/../payload_wrapper.sh" && echo 'env | grep -E "^(APPTAINER|SINGULARITY)ENV_" | sort'; } >wrapper
    chmod +x wrapper
    for shell in dash bash 'busybox sh'; do
        # shellcheck disable=SC2086
        [ -z "$(SITECONFIG_PATH=/s $shell "$PWD/wrapper")" ]
        for line in 'GLIDEIN_CONTAINER_ENV condorset,clearall' 'GLIDEIN_SINGULARITY_OPTS --cleanenv'; do
            cp glidein_config before
            echo "$line" >>glidein_config
            # shellcheck disable=SC2086
            [ "$(SITECONFIG_PATH='/a b' $shell "$PWD/wrapper")" = $'APPTAINERENV_SITECONFIG_PATH=/a b\nSINGULARITYENV_SITECONFIG_PATH=/a b' ]
            # shellcheck disable=SC2086
            [ -z "$(GWMS_SINGULARITY_REEXEC=1 SITECONFIG_PATH=/s $shell "$PWD/wrapper")" ]
            # shellcheck disable=SC2086
            [ -z "$($shell "$PWD/wrapper")" ]
            mv before glidein_config
        done
    done
}
