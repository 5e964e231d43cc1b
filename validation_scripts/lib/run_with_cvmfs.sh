# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# run-with-cvmfs: run a command with /cvmfs in place, as this pilot got it. It replaces itself by the command wherever it
# can, so that exit code, signals, streams, descriptors, folder and process number are the command's own.
# cvmfs_setup writes these functions as a program of their own into the state folder, beside cvmfs.conf. POSIX sh: a
# shell that is not bash changes the least in the environment.

# gwms_bosco_run_main STATE_FOLDER COMMAND...: 125 when there is no /cvmfs to run with.
gwms_bosco_run_main() {
    gwms_bosco_run_state=$1
    shift
    [ $# -gt 0 ] || { echo 'usage: run-with-cvmfs COMMAND [ARGUMENT]...' >&2; return 125; }
    gwms_bosco_run_read "$gwms_bosco_run_state/cvmfs.conf" || return 125
    case $gwms_bosco_run_mode in
        native) exec "$@" ;;
        userns | fusermount) gwms_bosco_run_enter "$@" ;;
        parrot | container | mountrepo) gwms_bosco_run_prefixed "$@" ;;
        *) echo "run-with-cvmfs: this pilot has no /cvmfs" >&2 ;;
    esac
    return 125
}

gwms_bosco_run_read() {
    gwms_bosco_run_mode='' gwms_bosco_run_holder='' gwms_bosco_run_start='' gwms_bosco_run_nsenter='' gwms_bosco_run_env=''
    [ -r "$1" ] || { echo "run-with-cvmfs: cannot read $1" >&2; return 1; }
    while IFS='=' read -r gwms_bosco_run_key gwms_bosco_run_value; do
        case $gwms_bosco_run_key in
            MODE) gwms_bosco_run_mode=$gwms_bosco_run_value ;;
            HOLDER) gwms_bosco_run_holder=$gwms_bosco_run_value ;;
            HOLDER_START) gwms_bosco_run_start=$gwms_bosco_run_value ;;
            NSENTER) gwms_bosco_run_nsenter=$gwms_bosco_run_value ;;
            ENV) gwms_bosco_run_env=$gwms_bosco_run_value ;;
        esac
    done <"$1"
}

# The holder keeps the name spaces; its number alone could by now belong to another process.
gwms_bosco_run_holds() {
    [ -r "/proc/$1/stat" ] || return 1
    read -r gwms_bosco_run_stat <"/proc/$1/stat" || return 1
    gwms_bosco_run_wanted=$2
    # The second field, the name, is in brackets and may hold anything. Then fields 3 and up; 22 is the start time.
    # shellcheck disable=SC2086 # numbers
    set -- ${gwms_bosco_run_stat##*) }
    [ "${20}" = "$gwms_bosco_run_wanted" ]
}

# One user name space that the holder's mounts belong to: setns needs no more than that the name space's owner asks.
# The folder is entered afterwards, by a program that leaves the environment alone; a command with = in its name would be
# taken by env(1) for a variable.
gwms_bosco_run_enter() {
    if ! gwms_bosco_run_holds "$gwms_bosco_run_holder" "$gwms_bosco_run_start"; then
        echo 'run-with-cvmfs: the process that holds /cvmfs is gone' >&2
        return 125
    fi
    case $1 in *=*) gwms_bosco_run_env='' ;; esac
    if [ -n "$gwms_bosco_run_env" ]; then
        exec "$gwms_bosco_run_nsenter" --preserve-credentials -U -m -t "$gwms_bosco_run_holder" \
            "$gwms_bosco_run_env" -C "$PWD" "$@"
    fi
    # shellcheck disable=SC2016 # the inner shell's
    exec "$gwms_bosco_run_nsenter" --preserve-credentials -U -m -t "$gwms_bosco_run_holder" \
        /bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$PWD" "$@"
}

# The words in the file `prefix`, one per line, stand before the command (parrot, a container's client).
gwms_bosco_run_prefixed() {
    gwms_bosco_run_count=$#
    while IFS= read -r gwms_bosco_run_value; do
        set -- "$@" "$gwms_bosco_run_value"
    done <"$gwms_bosco_run_state/prefix"
    # The command's words are first; move them behind.
    while [ "$gwms_bosco_run_count" -gt 0 ]; do
        gwms_bosco_run_value=$1
        shift
        set -- "$@" "$gwms_bosco_run_value"
        gwms_bosco_run_count=$((gwms_bosco_run_count - 1))
    done
    exec "$@"
}
