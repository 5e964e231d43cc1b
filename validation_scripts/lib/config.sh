# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Reads and writes glidein_config. Every value is data from outside: it is checked against a pattern before use.

# Longest value of an attribute, bytes. glideinWMS itself cuts lines at 4096 in its history.
GWMS_BOSCO_VALUE_MAX_BYTES=4096

# gwms_bosco_config_open FILE: set glidein_config, error_gen, condor_vars_file and load glideinWMS's own functions.
# Source: glideinWMS add_config_line.source; contract of validation scripts (ADD_CONFIG_LINE_SOURCE, ERROR_GEN_PATH).
gwms_bosco_config_open() {
    local functions
    glidein_config=$1
    [[ -r $glidein_config ]] || { echo "gwms-bosco: cannot read glidein_config '$1'" >&2; return 1; }
    functions=$(grep -m1 '^ADD_CONFIG_LINE_SOURCE ' "$glidein_config" | cut -d' ' -f2-)
    [[ -r $functions ]] || { echo "gwms-bosco: ADD_CONFIG_LINE_SOURCE names no readable file" >&2; return 1; }
    # shellcheck source=/dev/null
    . "$functions" || return 1
    error_gen=$(gconfig_get ERROR_GEN_PATH "$glidein_config")
    condor_vars_file=$(gconfig_get CONDOR_VARS_FILE "$glidein_config")
    export glidein_config error_gen condor_vars_file
}

# gwms_bosco_config_get KEY [DEFAULT]: the value, or DEFAULT when the key is absent or empty.
gwms_bosco_config_get() {
    local value
    value=$(gconfig_get "$1" "$glidein_config")
    printf '%s' "${value:-${2-}}"
}

# gwms_bosco_config_checked KEY PATTERN [DEFAULT]: like get; 1 with a sentence on stderr when the value is too long or
# not wholly PATTERN (extended regular expression, C locale).
gwms_bosco_config_checked() {
    local LC_ALL=C value
    value=$(gwms_bosco_config_get "$1" "${3-}")
    if [[ ${#value} -gt $GWMS_BOSCO_VALUE_MAX_BYTES ]]; then
        echo "$1 is longer than $GWMS_BOSCO_VALUE_MAX_BYTES bytes" >&2
        return 1
    fi
    if [[ -n $value && ! $value =~ ^($2)$ ]]; then
        echo "$1 has a value that is not allowed: ${value:0:60}" >&2
        return 1
    fi
    printf '%s' "$value"
}

# gwms_bosco_config_bool KEY DEFAULT: prints True or False; 1 when the value is neither.
gwms_bosco_config_bool() {
    local value
    value=$(gwms_bosco_config_checked "$1" '[Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|0|1' "$2") || return 1
    case $value in
        [Tt]* | 1) echo True ;;
        *) echo False ;;
    esac
}

# gwms_bosco_config_set KEY VALUE: add to glidein_config. In a subshell, as gconfig_add exits when it fails.
gwms_bosco_config_set() {
    (gconfig_add "$1" "$2")
}
