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

# Signals that are passed on: those that end a job, warnings before (Slurm, Grid Engine and LSF send USR1, USR2, XCPU and
# ALRM where asked), and CONT, by which Slurm wakes a job that it is about to end.
gwms_bosco_run_signals() {
    echo HUP INT QUIT TERM USR1 USR2 XCPU ALRM CONT
}

# Behind the tool, the payload's parent: $1 = the fifo, $2 = the signals, then the command. It ignores signals, as a `wait`
# that one interrupts may lose what it would have told. What passes them on holds them back until the payload's are its own
# again, and leaves out one that it has got itself within a second or two: the whole group has, with the payload in it.
# Later ones are others: the copy of one that the payload has sent to its group may never come.
# Nothing is said on the payload's stderr, as bash does of what a signal has ended. Before the payload has started no
# variable is set, as the environment may have one of that name.
# Shells start what goes to the background with INT and QUIT ignored: bash takes that back by trap, for others env(1)
# does, from coreutils 8.31 on.
gwms_bosco_run_inner() {
    # shellcheck disable=SC2016 # the inner shell's
    echo 'trap "" $2
exec 7>"$1.code" 9<"$1" 8<&0
(trap - $2; shift 2
env --default-signal=INT,QUIT true 2>/dev/null && case $1 in *=*) ;; *) set -- env --default-signal=INT,QUIT "$@" ;; esac
echo start >&9; exec "$@" 9>&-) <&8 7>&- 8<&- 9>"$1" & pid=$!
exec 2>/dev/null 8<&-
{ ready= early= direct=" " now=0 since=0
clock() { read -r now _ </proc/uptime || now=0; now=${now%%.*}; }
for s in $2; do trap "clock; hit=1 since=\$now direct=\"\${direct}$s \"" "$s"; done
while hit= s=; read -r s || [ "$hit" ]; do case $s in
    "") ;;
    start) ready=1 direct=" "; for s in $early; do kill -s "$s" "$pid"; done ;;
    end) exit ;;
    *) clock; [ "$((now - since))" -le 1 ] || direct=" "
    if [ -z "$ready" ]; then early="$early $s"; else case $direct in
        *" $s "*) direct="${direct%%" $s "*} ${direct#*" $s "}" ;;
        *) kill -s "$s" "$pid" ;;
    esac; fi ;;
esac; done; kill -9 "$pid"; } <&9 >/dev/null & reader=$!
wait "$pid"; rc=$?
echo end >"$1"
wait "$reader"
echo "$rc" >&7
exit "$rc"'
}

# Around it, in a container that runs already: what the tool changes is the payload's own again. $1 = the folder, which
# descriptor 9 is, then HOME and two settings of ours for the tool (empty, or = and the value), then the command.
gwms_bosco_run_restore() {
    # shellcheck disable=SC2016 # the inner shell's
    echo '[ /proc/self/fd/9 -ef . ] ||
{ echo "run-with-cvmfs: the container that has /cvmfs does not show the folder $1" >&2; exit 125; }
exec 9<&-
case $2 in =*) export HOME="${2#=}" ;; *) unset HOME ;; esac
case $3 in =*) export APPTAINER_CONFIGDIR="${3#=}" ;; *) unset APPTAINER_CONFIGDIR ;; esac
case $4 in =*) export SINGULARITY_CONFIGDIR="${4#=}" ;; *) unset SINGULARITY_CONFIGDIR ;; esac
shift 4
exec "$@"'
}

# The words in the file `prefix`, one per line, stand before the command (parrot, a container's client). Such a program
# takes signals for itself, or for nobody. So they go around it: by a fifo to a shell behind it. End of file there means
# that this process was killed, and so is the payload. The exit code comes back by a fifo of its own.
gwms_bosco_run_prefixed() {
    # Something else shows the mounts, such as the container that runs next.
    [ -s "$gwms_bosco_run_state/prefix" ] || exec "$@"
    gwms_bosco_run_shell='/bin/sh -c'
    [ ! -r "$gwms_bosco_run_state/inside-shell" ] || read -r gwms_bosco_run_shell <"$gwms_bosco_run_state/inside-shell"
    gwms_bosco_run_fifo=$gwms_bosco_run_state/signals.$$
    rm -f "$gwms_bosco_run_fifo" "$gwms_bosco_run_fifo.code"
    if mkfifo -m 600 "$gwms_bosco_run_fifo" "$gwms_bosco_run_fifo.code" 2>/dev/null; then
        # shellcheck disable=SC2086 # words
        set -- $gwms_bosco_run_shell "$(gwms_bosco_run_inner)" run-with-cvmfs \
            "$gwms_bosco_run_fifo" "$(gwms_bosco_run_signals)" "$@"
    else
        rm -f "$gwms_bosco_run_fifo"
        gwms_bosco_run_fifo=''
    fi
    if [ "$gwms_bosco_run_mode" = container ]; then
        # shellcheck disable=SC2086 # words
        set -- $gwms_bosco_run_shell "$(gwms_bosco_run_restore)" run-with-cvmfs "$PWD" "${HOME+=$HOME}" \
            "${APPTAINER_CONFIGDIR+=$APPTAINER_CONFIGDIR}" "${SINGULARITY_CONFIGDIR+=$SINGULARITY_CONFIGDIR}" "$@"
        gwms_bosco_run_contain
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
    case ${gwms_bosco_run_fifo:+signals}$gwms_bosco_run_mode in
        signals*) gwms_bosco_run_around "$@" ;;
        container) exec "$@" 9<. ;;
        *) exec "$@" ;;
    esac
}

# For the container's client: where its instances are, which is below HOME otherwise, and payloads have another. The
# node's libraries do not fit the image's programs; its program folders come after the image's own.
gwms_bosco_run_contain() {
    unset LD_PRELOAD LD_LIBRARY_PATH
    export APPTAINER_CONFIGDIR="$gwms_bosco_run_state/apptainer" SINGULARITY_CONFIGDIR="$gwms_bosco_run_state/apptainer"
    [ -z "${PATH:-}" ] || export APPTAINERENV_APPEND_PATH="$PATH" SINGULARITYENV_APPEND_PATH="$PATH"
}

# gwms_bosco_run_around COMMAND...: run it, pass signals on by the fifo, and end with the exit code that comes back.
gwms_bosco_run_around() {
    # A command started by & has no stdin unless it is told so, and there may be none.
    [ -e "/proc/$$/fd/0" ] || exec </dev/null
    exec 7<>"$gwms_bosco_run_fifo.code" 8<&0 9<>"$gwms_bosco_run_fifo"
    for gwms_bosco_run_value in $(gwms_bosco_run_signals); do
        # shellcheck disable=SC2064 # the signal's name now
        trap "echo $gwms_bosco_run_value >&9" "$gwms_bosco_run_value"
    done
    if [ "$gwms_bosco_run_mode" = container ]; then
        # A container's client ends by a signal to the group, and the exit code is lost. Out of the group, KILL finds the
        # payload by the fifo's end.
        setsid "$@" <&8 7>&- 8<&- 9<. &
    else
        "$@" <&8 7>&- 8<&- 9>&- &
    fi
    gwms_bosco_run_child=$!
    exec 8<&-
    while :; do
        wait "$gwms_bosco_run_child"
        gwms_bosco_run_rc=$?
        kill -0 "$gwms_bosco_run_child" 2>/dev/null || break
    done
    # What comes now changes nothing any more.
    # shellcheck disable=SC2046 # words
    trap '' $(gwms_bosco_run_signals)
    # Where the tool was killed alone, the payload goes with it.
    exec 9>&-
    # A signal has made that code its own; the first one in the fifo is right.
    echo "$gwms_bosco_run_rc" >&7
    read -r gwms_bosco_run_rc <&7
    rm -f "$gwms_bosco_run_fifo" "$gwms_bosco_run_fifo.code"
    exit "$gwms_bosco_run_rc"
}
