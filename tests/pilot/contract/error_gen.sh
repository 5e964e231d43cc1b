#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Stand-in for glideinWMS's file of this name, written from the contract: the result goes to otrb_output.xml in the
# current folder, and nothing is escaped.

metrics() {
    while [ $# -gt 1 ]; do
        echo "<metric name=\"$1\" ts=\"$(date +%FT%T%:z)\" uri=\"local\">$2</metric>"
        shift 2
    done
}

how=$1 id=$2
shift 2
{
    printf '<?xml version="1.0"?>\n<OSGTestResult id="%s" version="4.3.1">\n<result>\n' "$id"
    case $how in
        -ok)
            echo '<status>OK</status>'
            metrics "$@"
            echo '</result>'
            ;;
        -error)
            echo '<status>ERROR</status>'
            type=$1 detail=$2
            shift 2
            metrics failure "$type" "$@"
            printf '</result>\n<detail>\n%s\n</detail>\n' "$detail"
            ;;
        *) exit 1 ;;
    esac
    echo '</OSGTestResult>'
} >otrb_output.xml
