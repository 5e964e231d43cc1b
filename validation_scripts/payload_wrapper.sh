# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Inlined into glideinWMS's job wrapper, which ends with `exec $GLIDEIN_WRAPPER_EXEC`; runs before every payload.
# Sets gwms_bosco_run, what a payload is started with: the helper that payload_setup has written beside the wrapper, or
# nothing. It is not exported, so the payload's environment stays as it is.

# Prints the helper's path. Nothing where this wrapper runs again inside a payload's own container: there the pilot's
# folder is not visible, and that container has /cvmfs bound already.
gwms_bosco_payload_main() (
    helper=${0%/*}/gwms_bosco/payload-exec
    if [ ! -x "$helper" ]; then
        [ -z "${GWMS_SINGULARITY_REEXEC:-}" ] || return 0
        # Only when the last line needs the helper has something gone wrong. The file tells HTCondor that the wrapper
        # has failed and not the job, which is then tried elsewhere.
        if grep -q '^exec .*gwms_bosco_run' "$0" 2>/dev/null; then
            lost="BOSCO-PAYLOAD-01 the payload cannot be started: $helper is gone"
            printf '%s\n' "$lost" >&2
            [ -z "${_CONDOR_WRAPPER_ERROR_FILE:-}" ] || printf '%s\n' "$lost" >>"$_CONDOR_WRAPPER_ERROR_FILE"
        fi
    fi
    printf '%s' "$helper"
)
# A frontend may have its containers start with an emptied environment, which would lose where SITECONF is. The tool itself
# takes these names for variables of the inside.
gwms_bosco_payload_keeps() (
    [ -n "${SITECONFIG_PATH:-}" ] && [ -z "${GWMS_SINGULARITY_REEXEC:-}" ] &&
        grep -Eqs '^GLIDEIN_(CONTAINER_ENV .*clear|SINGULARITY_OPTS .*--cleanenv)' "${0%/*}/glidein_config"
)
if gwms_bosco_payload_keeps; then
    APPTAINERENV_SITECONFIG_PATH=$SITECONFIG_PATH SINGULARITYENV_SITECONFIG_PATH=$SITECONFIG_PATH
    export APPTAINERENV_SITECONFIG_PATH SINGULARITYENV_SITECONFIG_PATH
    if [ -n "${CMS_PATH:-}" ]; then
        APPTAINERENV_CMS_PATH=$CMS_PATH SINGULARITYENV_CMS_PATH=$CMS_PATH
        export APPTAINERENV_CMS_PATH SINGULARITYENV_CMS_PATH
    fi
fi
# shellcheck disable=SC2034 # used by the last line of the wrapper
gwms_bosco_run=$(gwms_bosco_payload_main)
