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

# The words in the file `prefix`, one per line, stand before the command (parrot, a container's client). Such a program
# takes signals for itself, or for nobody. So they go around it: by a fifo to a shell behind it, which is the payload's
# parent. End of file there means that this process was killed, and so is the payload.
# Shells start what goes to the background with INT and QUIT ignored: bash takes that back by trap, for others env(1)
# does, from coreutils 8.31 on.
gwms_bosco_run_prefixed() {
    # Something else shows the mounts, such as the container that runs next.
    [ -s "$gwms_bosco_run_state/prefix" ] || exec "$@"
    # shellcheck disable=SC2016 # the inner shell's
    gwms_bosco_run_inner='
exec 9<"$1" 8<&0
rm -f "$1"
shift
trap : HUP INT QUIT TERM USR1 USR2
env --default-signal=INT,QUIT true 2>/dev/null && case $1 in *=*) ;; *) set -- env --default-signal=INT,QUIT "$@" ;; esac
(trap - INT QUIT; exec "$@") <&8 8<&- 9<&- & pid=$!
{ while read -r s; do kill -s "$s" "$pid"; done; kill -9 "$pid"; } <&9 >/dev/null 2>&1 8<&- 9<&- & reader=$!
exec 8<&- 9<&-
while :; do wait "$pid"; rc=$?; kill -0 "$pid" 2>/dev/null || break; done
kill -9 "$reader"
exit "$rc"'
    gwms_bosco_run_fifo=$gwms_bosco_run_state/signals.$$
    rm -f "$gwms_bosco_run_fifo"
    if mkfifo -m 600 "$gwms_bosco_run_fifo" 2>/dev/null; then
        gwms_bosco_run_value='/bin/sh -c'
        [ ! -r "$gwms_bosco_run_state/inside-shell" ] || read -r gwms_bosco_run_value <"$gwms_bosco_run_state/inside-shell"
        # shellcheck disable=SC2086 # words
        set -- $gwms_bosco_run_value "$gwms_bosco_run_inner" run-with-cvmfs "$gwms_bosco_run_fifo" "$@"
    else
        gwms_bosco_run_fifo=''
    fi
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
    # A full disk must not keep a payload from running.
    [ -n "$gwms_bosco_run_fifo" ] || exec "$@"
    gwms_bosco_run_around "$@"
}

# gwms_bosco_run_around COMMAND...: run it, pass signals on by the fifo, and end with its exit code.
gwms_bosco_run_around() {
    # A command started by & has no stdin unless it is told so, and there may be none.
    [ -e "/proc/$$/fd/0" ] || exec </dev/null
    exec 8<&0 9<>"$gwms_bosco_run_fifo"
    for gwms_bosco_run_value in HUP INT QUIT TERM USR1 USR2; do
        # shellcheck disable=SC2064 # the signal's name now
        trap "echo $gwms_bosco_run_value >&9" "$gwms_bosco_run_value"
    done
    # A container's client ends by a signal to the group, and the exit code is lost. Out of the group, KILL finds the
    # payload by the fifo's end.
    [ "$gwms_bosco_run_mode" != container ] || set -- setsid "$@"
    "$@" <&8 8<&- 9>&- &
    gwms_bosco_run_child=$!
    exec 8<&-
    while :; do
        wait "$gwms_bosco_run_child"
        gwms_bosco_run_rc=$?
        kill -0 "$gwms_bosco_run_child" 2>/dev/null || break
    done
    rm -f "$gwms_bosco_run_fifo"
    exit "$gwms_bosco_run_rc"
}
