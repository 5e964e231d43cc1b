# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Inlined into glideinWMS's job wrapper at a closed site; runs before every payload. HTCondor starts payloads with an
# environment of their own, so what leads their connections into the tunnel is set here: LD_PRELOAD, behind what the job
# has set itself, and the file that proxychains reads.

# gwms_bosco_egress_value KEY: of what egress_setup has left. Nothing where this wrapper runs again inside a payload's own
# container: there the pilot's folder is not visible, and the library might not fit.
gwms_bosco_egress_value() (
    file=${0%/*}/gwms_bosco/egress.conf
    [ -r "$file" ] || return 0
    while IFS='=' read -r key value; do
        [ "$key" != "$1" ] || printf '%s' "$value"
    done <"$file"
)
# What LD_PRELOAD becomes; nothing where payloads are not chained.
gwms_bosco_egress_preload() (
    library=$(gwms_bosco_egress_value PRELOAD)
    [ "$(gwms_bosco_egress_value PAYLOADS)" = True ] && [ -n "$library" ] && [ -r "$library" ] || return 0
    case ":${LD_PRELOAD:-}:" in
        *":$library:"* | *" $library:"*) printf '%s' "$LD_PRELOAD" ;;
        *) printf '%s' "${LD_PRELOAD:+$LD_PRELOAD:}$library" ;;
    esac
)
gwms_bosco_egress_library=$(gwms_bosco_egress_preload)
if [ -n "$gwms_bosco_egress_library" ]; then
    PROXYCHAINS_CONF_FILE=$(gwms_bosco_egress_value PROXYCHAINS)
    PROXYCHAINS_QUIET_MODE=1
    LD_PRELOAD=$gwms_bosco_egress_library
    export PROXYCHAINS_CONF_FILE PROXYCHAINS_QUIET_MODE LD_PRELOAD
fi
