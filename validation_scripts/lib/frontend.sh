# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# /cvmfs for containers that a frontend's own wrapper starts. Its fragment of the job wrapper starts apptainer before the
# last line, which is ours, is reached; so apptainer itself must be where /cvmfs is.

# Seconds for a look at the mounts, and for the tool to say its version.
GWMS_BOSCO_FRONTEND_S=20

# gwms_bosco_frontend_program TOOL MOUNT: the text of container-with-cvmfs. glideinWMS's scripts look at the repositories
# from outside, in MOUNT, and name MOUNT to the tool, which finds them in /cvmfs.
gwms_bosco_frontend_program() {
    printf "#!/bin/sh\ntool='%s' mount='%s'\n" "$@"
    # No here-document: older bash keeps those in a file, and on a full disk half a program would be left.
    # shellcheck disable=SC2016 # variables of the program
    printf '%s\n' '# Written by payload_setup. What glideinWMS starts in place of apptainer: the same, where /cvmfs is.
for word do
    shift
    while :; do
        case $word in
            *"$mount"*) word=${word%%"$mount"*}/cvmfs${word#*"$mount"} ;;
            *) break ;;
        esac
    done
    set -- "$@" "$word"
done
# In a user name space setuid programs have no effect, and a tool that was installed so must not try.
APPTAINER_USERNS=1 SINGULARITY_USERNS=1
export APPTAINER_USERNS SINGULARITY_USERNS
exec "${0%/*}/run-with-cvmfs" "$tool" "$@"'
}

# gwms_bosco_frontend_setup MODE TOOL: let glideinWMS's container scripts find /cvmfs. 0 when containers of a frontend get
# it; else 1 and why not on stdout.
# Source: glideinWMS 3.10 singularity_lib.sh, singularity_locate_bin, cvmfs_resolve_path, singularity_get_binds.
gwms_bosco_frontend_setup() {
    local mount
    case $1 in
        # In the second cvmfs_setup has named the place where it is mounted.
        native | mountrepo) return 0 ;;
        userns | fusermount) ;;
        # setns, unshare and mount are no system calls of the tracer.
        parrot) echo 'no container starts under parrot'; return 1 ;;
        # The instance's mounts are those of its name spaces: a bind mount does not reach across them, and where they are
        # there is only the image, without the node's tool.
        container) echo 'the mounts are in a container of their own, in which no other one starts'; return 1 ;;
        *) echo 'there is no /cvmfs'; return 1 ;;
    esac
    if [[ -n ${GLIDEIN_SINGULARITY_BINARY_OVERRIDE-}$(gwms_bosco_frontend_override) ]]; then
        echo 'GLIDEIN_SINGULARITY_BINARY_OVERRIDE is set here'
        return 1
    fi
    [[ -n $2 ]] || { echo 'neither apptainer nor singularity is on this node'; return 1; }
    mount=/proc/$(gwms_bosco_state_read cvmfs.conf HOLDER none)/root/cvmfs
    # By the name space's owner, which is this account, also from outside it.
    gwms_bosco_limit_run "$GWMS_BOSCO_FRONTEND_S" "$GWMS_BOSCO_DIR/frontend.log" ls -A "$mount"
    [[ $? == 0 && -s $GWMS_BOSCO_DIR/frontend.log ]] || { echo 'the mounts cannot be seen from outside'; return 1; }
    gwms_bosco_frontend_program "$2" "$mount" | gwms_bosco_state_program container-with-cvmfs || return 1
    if ! gwms_bosco_limit_run "$GWMS_BOSCO_FRONTEND_S" /dev/null "$GWMS_BOSCO_DIR/container-with-cvmfs" --version; then
        echo "$2 does not start where the mounts are"
        return 1
    fi
    gwms_bosco_config_set GLIDEIN_SINGULARITY_BINARY_OVERRIDE "$GWMS_BOSCO_DIR/container-with-cvmfs" &&
        gwms_bosco_config_set CVMFS_MOUNT_DIR "$mount"
}

# The site's or frontend's setting; ours of an earlier run is none.
gwms_bosco_frontend_override() {
    local set
    set=$(gwms_bosco_config_get GLIDEIN_SINGULARITY_BINARY_OVERRIDE)
    [[ $set == "$GWMS_BOSCO_DIR/container-with-cvmfs" ]] || printf '%s' "$set"
}
