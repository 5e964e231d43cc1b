#!/usr/bin/env bats
# SPDX-License-Identifier: Apache-2.0

load node

setup() {
    pilot_folder "X509_CERT_DIR $BATS_TEST_TMPDIR/glide/node-ca" "ENTRY_GWMS_BOSCO_CA_DIR $BATS_TEST_TMPDIR/glide/shipped-ca"
    load_libraries credentials
    state_folder
    unset X509_CERT_DIR
    printf '[ca]\ndefault_ca=one\n[one]\ndatabase=index\ndefault_md=sha256\nserial=serial\n[any]\ncommonName=supplied\n' >ca.config
    : >index
}

# ca FOLDER [NEXT_UPDATE]: a folder with one CA, and a revocation list until NEXT_UPDATE (YYYYMMDDHHMMSSZ).
ca() {
    mkdir -p "$1"
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=test -days 2 -keyout ca.key -out ca.pem 2>/dev/null
    hash=$(openssl x509 -in ca.pem -noout -hash)
    cp ca.pem "$1/$hash.0"
    [ -z "${2-}" ] || openssl ca -gencrl -keyfile ca.key -cert ca.pem -config ca.config \
        -crl_lastupdate 20200101000000Z -crl_nextupdate "$2" -out "$1/$hash.r0" 2>/dev/null
}

# token PAYLOAD: a file with a JSON web token.
token() {
    body=$(printf '%s' "$1" | base64 -w 0 | tr '/+' '_-' | tr -d '=')
    (umask 077 && printf 'eyJhbGciOiJub25lIn0.%s.c2ln\n' "$body" >token)
}

@test "credentials_ca counts certificates and judges revocation lists" {
    ca plain
    [ "$(gwms_bosco_credentials_ca "$PWD/plain")" = 'certificates 1 crls none' ]
    ca good 20990101000000Z
    [ "$(gwms_bosco_credentials_ca "$PWD/good")" = 'certificates 1 crls good' ]
    ca old 20200102000000Z
    [ "$(gwms_bosco_credentials_ca "$PWD/old")" = 'certificates 1 crls expired' ]
    cp good/*.r0 old/00000000.r0
    [ "$(gwms_bosco_credentials_ca "$PWD/old")" = 'certificates 1 crls good' ]
}

@test "credentials_ca answers in time for ten thousand files, as many dead links, a loop, and lists that all have expired" {
    GWMS_BOSCO_CREDENTIALS_S=15
    ca many 20200102000000Z
    name=$(echo many/*.r0)
    for ((i = 0; i < 3000; i++)); do printf '%08x.r0 %08x.0 %08x.r1 ' "$i" "$i" "$i"; done | tr ' ' '\n' >names
    (cd many && sed -n 's/\.r0$/&/p' ../names | xargs -n 1 ln "${name#many/}" && sed -n 's/\.0$/&/p' ../names | xargs -n 1 ln -s nowhere)
    ln -s ffffffff.r0 many/ffffffff.r0
    [ "$(gwms_bosco_credentials_ca "$PWD/many")" = 'certificates 1 crls expired' ]
}

@test "credentials_ca without openssl goes by form" {
    ca good 20990101000000Z
    mkdir few
    for name in sh grep wc awk sort tail printf date setsid; do ln -s "$(command -v $name)" few/; done
    gwms_bosco_credentials_ca_program >program
    [ "$(PATH=$PWD/few sh program good 20260101000000)" = 'certificates 1 crls unread' ]
    [ "$(busybox sh program good 20260101000000)" = 'certificates 1 crls good' ]
}

@test "credentials_ca refuses what only looks like a CA folder" {
    mkdir empty named
    touch named/12345678.0
    echo '-----BEGIN CERTIFICATE-----' >named/ca.pem
    for folder in empty named none; do
        run gwms_bosco_credentials_ca "$PWD/$folder"
        [ "$status" = 1 ]
        [[ $output == "$PWD/$folder: "* ]]
    done
}

@test "credentials_ca ends when there is no answer" {
    GWMS_BOSCO_CREDENTIALS_S=1
    printf '#!/bin/sh\nexec sleep 600\n' >hang
    chmod +x hang
    run gwms_bosco_credentials_ca /cvmfs/x "$PWD/hang"
    [ "$status" = 124 ]
    [ "$output" = '/cvmfs/x: no answer in 1 s' ]
}

@test "credentials_ca takes only an answer for one, whatever the exit code" {
    printf '#!/bin/sh\n[ -z "$5" ] || echo odd\n' >silent
    chmod +x silent
    run gwms_bosco_credentials_ca /no/such/folder "$PWD/silent"
    [ "$status" = 1 ]
    [[ $output == '/no/such/folder: '* ]]
}

@test "credentials_ca needs no room for its program" {
    ca good
    # As bash before 5.1 does: a here-document is a file, which a full disk does not take.
    BASH_COMPAT=50
    without_room() { (ulimit -f 0 && trap '' XFSZ && gwms_bosco_credentials_ca_program); }
    [ "$(without_room)" = "$(gwms_bosco_credentials_ca_program)" ]
    [[ $(without_room) == *'certificates $n crls'* ]]
}

@test "credentials_find goes by the order, and keeps why a place was passed over" {
    ca shipped-ca
    [[ $(gwms_bosco_credentials_find shipped,node) == "shipped $PWD/shipped-ca certificates 1 crls none" ]]
    [ -z "$(cat gwms_bosco/credentials.why)" ]
    [[ $(gwms_bosco_credentials_find node,cvmfs,shipped) == "shipped $PWD/shipped-ca "* ]]
    grep -q "node: $PWD/node-ca: there is no such folder" gwms_bosco/credentials.why
    ca node-ca
    [[ $(gwms_bosco_credentials_find node,shipped) == "node $PWD/node-ca "* ]]
    rm -r node-ca shipped-ca
    run gwms_bosco_credentials_find cvmfs,shipped
    [ "$status" = 1 ]
}

@test "credentials_find looks below /cvmfs by run-with-cvmfs" {
    echo MODE=userns >gwms_bosco/cvmfs.conf
    # In its place a program that says what it was asked.
    printf '#!/bin/sh\necho "$5" >>%s/asked\necho certificates 3 crls good\n' "$PWD" | gwms_bosco_state_program run-with-cvmfs
    run gwms_bosco_credentials_find cvmfs
    [ "$status" = 0 ]
    [[ $output == 'cvmfs /cvmfs/oasis.opensciencegrid.org/mis/certificates certificates 3 crls good' ]]
    [ "$(cat asked)" = /cvmfs/oasis.opensciencegrid.org/mis/certificates ]
}

# instance: a way into a container that has the shipped CA directory, and not the node's.
instance() {
    ca node-ca
    ca shipped-ca
    echo MODE=container >gwms_bosco/cvmfs.conf
    # shellcheck disable=SC2016
    printf '#!/bin/sh\ncase $5 in */shipped-ca) exec "$@" ;; esac\necho "$5: there is no such folder"\nexit 1\n' |
        gwms_bosco_state_program run-with-cvmfs
}

@test "credentials_find looks for every place where payloads will, in the container that is the rung" {
    instance
    [[ $(gwms_bosco_credentials_find node,shipped) == "shipped $PWD/shipped-ca "* ]]
    grep -qF "node: $PWD/node-ca: there is no such folder" gwms_bosco/credentials.why
    run gwms_bosco_credentials_find node always
    [ "$status" = 1 ]
}

@test "credentials_look says of which side a folder is missing" {
    instance
    [ "$(gwms_bosco_credentials_look node "$PWD/node-ca" userns always)" = 'certificates 1 crls none' ]
    run gwms_bosco_credentials_look node "$PWD/node-ca" container always
    [ "$status $output" = "1 $PWD/node-ca: there is no such folder" ]
    mv shipped-ca other
    run gwms_bosco_credentials_look shipped "$PWD/shipped-ca" container on-request
    [ "$status $output" = "1 $PWD/shipped-ca: there is no such folder" ]
    # Of a /cvmfs that nothing has put in place.
    rm gwms_bosco/run-with-cvmfs
    [ "$(gwms_bosco_credentials_look cvmfs "$PWD/other" native never)" = 'certificates 1 crls none' ]
}

@test "credentials_find looks in both places where some payloads are in that container, and outside where none are" {
    instance
    [[ $(gwms_bosco_credentials_find node,shipped on-request) == "shipped $PWD/shipped-ca "* ]]
    rm -r shipped-ca
    run gwms_bosco_credentials_find node,shipped on-request
    [ "$status" = 1 ]
    [[ $(gwms_bosco_credentials_find node never) == "node $PWD/node-ca "* ]]
}

@test "credentials_find takes none of /cvmfs that only some payloads get" {
    printf '#!/bin/sh\necho certificates 3 crls good\n' | gwms_bosco_state_program run-with-cvmfs
    for mode in userns container parrot; do
        echo "MODE=$mode" >gwms_bosco/cvmfs.conf
        for policy in on-request never; do
            run gwms_bosco_credentials_find cvmfs "$policy"
            [ "$status" = 1 ]
            [ "$(cat gwms_bosco/credentials.why)" = "cvmfs: not every payload is given /cvmfs ($policy); " ]
        done
        [[ $(gwms_bosco_credentials_find cvmfs always) == 'cvmfs /cvmfs/'* ]]
    done
    echo MODE=native >gwms_bosco/cvmfs.conf
    [[ $(gwms_bosco_credentials_find cvmfs never) == 'cvmfs /cvmfs/'* ]]
}

@test "credentials_find passes over hostile paths and runs nothing in them" {
    # shellcheck disable=SC2016
    for value in '/a b' '/$(touch injected)' '/`touch injected`' "/'x'" '/x;touch injected' "/$(head -c 65536 /dev/zero | tr '\0' x)"; do
        sed -i '/^X509_CERT_DIR /d' glidein_config
        printf 'X509_CERT_DIR %s\n' "$value" >>glidein_config
        run gwms_bosco_credentials_find node
        [ "$status" = 1 ]
        grep -q 'odd characters' gwms_bosco/credentials.why
        [ "$(wc -c <gwms_bosco/credentials.why)" -lt 600 ]
        [ ! -e injected ]
    done
}

@test "credentials_places gives nothing of /cvmfs where there is none" {
    [ -z "$(gwms_bosco_credentials_places cvmfs)" ]
    echo MODE=native >gwms_bosco/cvmfs.conf
    [ "$(gwms_bosco_credentials_places cvmfs | wc -l)" = 2 ]
}

@test "credentials_file wants a file of sane size that others cannot read" {
    touch empty
    chmod 600 empty
    run gwms_bosco_credentials_file empty proxy
    [ "$status" = 1 ]
    head -c 65536 /dev/zero >full
    chmod 600 full
    gwms_bosco_credentials_file full proxy
    echo x >>full
    run gwms_bosco_credentials_file full proxy
    [ "$output" = 'the proxy file has 65538 bytes' ]
    echo x >open
    chmod 640 open
    run gwms_bosco_credentials_file open token
    [ "$output" = 'the token file has mode 640: others can read it' ]
    run gwms_bosco_credentials_file none token
    [ "$output" = 'the token file cannot be read' ]
}

@test "credentials_proxy wants certificate and key, in time" {
    ca some
    (umask 077 && cat ca.pem ca.key >proxy)
    [[ $(gwms_bosco_credentials_proxy proxy) == until* ]]
    (umask 077 && cat ca.pem >no-key)
    run gwms_bosco_credentials_proxy no-key
    [ "$output" = 'the proxy file has no key' ]
    (umask 077 && echo placeholder >text)
    run gwms_bosco_credentials_proxy text
    [ "$output" = 'the proxy file has no certificate' ]
    openssl req -new -key ca.key -subj /CN=old -out old.csr 2>/dev/null
    openssl x509 -req -in old.csr -signkey ca.key -days -1 -out old.pem 2>/dev/null
    (umask 077 && cat old.pem ca.key >old)
    run gwms_bosco_credentials_proxy old
    [ "$status" = 1 ]
    [[ $output == 'the proxy has expired'* ]]
    openssl ca -batch -selfsign -keyfile ca.key -in old.csr -config ca.config -startdate 20900101000000Z \
        -enddate 20910101000000Z -create_serial -notext -policy any -out young.pem -outdir . 2>/dev/null
    (umask 077 && cat young.pem ca.key >young)
    run gwms_bosco_credentials_proxy young
    [ "$status" = 1 ]
    [[ $output == 'the proxy is good only from Jan  1 00:00:00 2090 GMT' ]]
}

@test "credentials_token reads the end of a JSON web token" {
    token '{"sub":"x","exp":4102444800}'
    [ "$(gwms_bosco_credentials_token token)" = 'until 4102444800' ]
    token '{"exp" : 1000, "sub":"x"}'
    run gwms_bosco_credentials_token token
    [ "$output" = 'the token has expired at 1000' ]
    token '{"nbf":4102444800, "exp":4102444900}'
    run gwms_bosco_credentials_token token
    [ "$output" = 'the token is good only from 4102444800' ]
    token '{"nbf":1000,"exp":4102444800}'
    (umask 077 && printf '\n  %s \r\n\n' "$(cat token)" >blanks)
    [ "$(gwms_bosco_credentials_token blanks)" = 'until 4102444800' ]
    token '{"sub":"x"}'
    [ "$(gwms_bosco_credentials_token token)" = 'without end' ]
    for text in 'no token' 'a.b' 'a.!!.c' '$(touch injected).b.c'; do
        (umask 077 && printf '%s\n' "$text" >token)
        run gwms_bosco_credentials_token token
        [ "$output" = 'the token is no JSON web token' ]
    done
    [ ! -e injected ]
}
