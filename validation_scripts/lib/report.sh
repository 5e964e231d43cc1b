# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What a script tells the pilot and the pool: exactly one test result, and attributes of the machine ad.

# Longest value of an attribute of the machine ad, bytes: the reasons of six rungs.
GWMS_BOSCO_ATTRIBUTE_MAX_BYTES=1024

# gwms_bosco_report_safe TEXT [MAX]: one line of at most MAX (512) bytes, of characters that are harmless in a condor
# configuration file, in the pilot's `eval`, in XML and in a terminal. Anything else becomes a space.
# Source: glideinWMS condor_startup.sh set_var evaluates the value within single quotes.
gwms_bosco_report_safe() {
    local LC_ALL=C text=${1:0:8192}
    text=${text//[!A-Za-z0-9 _.,:;\/=()+@%-]/ }
    while [[ $text == *'  '* ]]; do text=${text//  / }; done
    text=${text# }
    text=${text:0:${2:-512}}
    printf '%s' "${text% }"
}

# gwms_bosco_report_xml TEXT: escaped for XML, control characters removed, as error_gen.sh escapes nothing.
gwms_bosco_report_xml() {
    local LC_ALL=C text=${1:0:8192}
    text=${text//[$'\001'-$'\010'$'\013'-$'\037'$'\177']/ }
    # A quoted replacement: newer bash takes a bare & for the matched text.
    text=${text//'&'/'&amp;'}
    text=${text//'<'/'&lt;'}
    text=${text//'>'/'&gt;'}
    text=${text//'"'/'&quot;'}
    # error_gen.sh has the text pass `echo -e`-like tools; a backslash would be read there.
    printf '%s' "${text//\\/ }"
}

# gwms_bosco_report_ok ID [METRIC VALUE]...: write the OK result.
gwms_bosco_report_ok() {
    gwms_bosco_report_result -ok "$1" "${@:2}"
}

# gwms_bosco_report_error ID TYPE DETAIL [METRIC VALUE]...: write the error result, and the detail to stderr.
gwms_bosco_report_error() {
    local id=$1 type=$2 detail=$3
    shift 3
    printf '%s\n' "$detail" >&2
    gwms_bosco_report_result -error "$id" "$type" "$(gwms_bosco_report_xml "$detail")" "$@"
}

# The metrics are escaped here; the words before them are the caller's.
gwms_bosco_report_result() {
    local -a words
    local fixed=2
    [[ $1 == -error ]] && fixed=4
    words=("${@:1:fixed}")
    shift "$fixed"
    while [[ $# -ge 2 ]]; do
        words+=("$1" "$(gwms_bosco_report_xml "$2")")
        shift 2
    done
    # shellcheck disable=SC2154 # set by gwms_bosco_config_open
    "$error_gen" "${words[@]}"
}

# gwms_bosco_report_attribute NAME TYPE VALUE: into glidein_config and the machine ad. TYPE S string, C expression or
# boolean, I integer.
gwms_bosco_report_attribute() {
    gwms_bosco_config_set "$1" "$(gwms_bosco_report_safe "$3" "$GWMS_BOSCO_ATTRIBUTE_MAX_BYTES")" &&
        add_condor_vars_line "$1" "$2" - + N Y -
}
