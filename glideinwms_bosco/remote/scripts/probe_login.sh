#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# What probe.sh runs in the environment of a login shell, as blahpd and its batch commands have it. Every line that it
# prints begins with the token, so that nothing else on the same output is taken for an answer.
# Arguments: the token; the first line of standard input, which is the token too if the profile has left it alone.
# Then from standard input: install folder, folder of the batch commands or -, seconds per command, a list of commands
# that must be there, number of questions, for each its key and a list of words; seconds for the test job (0: none) and
# for its result to show up after its end, lists for submit, state, cancel and text, the patterns id, alive
# and decided (of an answer of state: no result will come; empty: it never says).
# A list is its length, then its members, one line each.
LC_ALL=C
export LC_ALL
BOSCO_TOKEN=$1

bosco_login_say() {
  printf '%s %s\n' "$BOSCO_TOKEN" "$*"
}

bosco_login_param() {
  IFS= read -r BOSCO_PARAM || BOSCO_PARAM=
}

# bosco_login_clean PREFIX: lines of standard input as answers, without what is no plain text, at most 4000.
bosco_login_clean() {
  sed -n -e '4000,$d' -e 's/[^ -~]/?/g' -e "s/^/$BOSCO_TOKEN $1 /p" | cut -c 1-3000
}

# A command must not read what is meant for the next; TERM is ignored here, and so by everything that is started.
bosco_login_run() {
  ${BOSCO_LIMIT:+timeout -s KILL "$BOSCO_LIMIT"} "$@" </dev/null
}

bosco_login_commands() {
  bosco_login_param
  BOSCO_LEFT=$BOSCO_PARAM
  while [ "${BOSCO_LEFT:-0}" -gt 0 ]; do
    bosco_login_param
    command -v "$BOSCO_PARAM" >/dev/null 2>&1 || bosco_login_say NO-COMMAND "$BOSCO_PARAM"
    BOSCO_LEFT=$((BOSCO_LEFT - 1))
  done
}

# bosco_login_ask KEY COMMAND...
bosco_login_ask() {
  BOSCO_KEY=$1
  shift
  {
    BOSCO_STATUS=0
    bosco_login_run "$@" 2>&1 || BOSCO_STATUS=$?
    printf '\n%s %s\n' "$BOSCO_TOKEN" "$BOSCO_STATUS"
  } | sed -n -e "s/^$BOSCO_TOKEN /$BOSCO_TOKEN STATUS $BOSCO_KEY /p" -e t -e '4000,$d' \
    -e 's/[^ -~]/?/g' -e "s/^/$BOSCO_TOKEN SAID $BOSCO_KEY /p" | cut -c 1-3000
}

bosco_login_questions() {
  bosco_login_param
  BOSCO_QUESTIONS=$BOSCO_PARAM
  while [ "${BOSCO_QUESTIONS:-0}" -gt 0 ]; do
    bosco_login_param
    set -- "$BOSCO_PARAM"
    bosco_login_param
    BOSCO_LEFT=$BOSCO_PARAM
    while [ "${BOSCO_LEFT:-0}" -gt 0 ]; do
      bosco_login_param
      set -- "$@" "$BOSCO_PARAM"
      BOSCO_LEFT=$((BOSCO_LEFT - 1))
    done
    bosco_login_ask "$@"
    BOSCO_QUESTIONS=$((BOSCO_QUESTIONS - 1))
  done
}

bosco_login_environment() {
  bosco_login_say UMASK "$(umask)"
  sed -n -e 's/^Max processes  *\([^ ]*\) .*/processes \1/p' -e 's/^Max open files  *\([^ ]*\) .*/files \1/p' \
    -e 's/^Max cpu time  *\([^ ]*\) .*/cpu \1/p' /proc/self/limits 2>/dev/null | bosco_login_clean LIMIT
  # blahp makes its batch scripts there.
  if BOSCO_FILE=$(mktemp /tmp/gwms-bosco-probe.XXXXXX 2>&1); then
    printf '#!/bin/sh\nexit 0\n' >"$BOSCO_FILE"
    chmod 700 "$BOSCO_FILE"
    if "$BOSCO_FILE" 2>/dev/null; then
      bosco_login_say TMP runs
    else
      bosco_login_say TMP noexec
    fi
    rm -f -- "$BOSCO_FILE"
  else
    bosco_login_say TMP none
  fi
}

# The job writes `out` beside itself if it finds what the login node has written there.
bosco_login_job_files() {
  BOSCO_WORK=$(pwd -P)/.gwms-bosco-probe-$BOSCO_TOKEN
  (umask 077 && mkdir "$BOSCO_WORK") 2>/dev/null || return 1
  printf '%s\n' "$BOSCO_TOKEN" >"$BOSCO_WORK/in" || return 1
  # The path is quoted for the job's shell.
  {
    printf '#!/bin/sh\nBOSCO_WORK='
    printf "'%s'\n" "$(printf '%s\n' "$BOSCO_WORK" | sed "s/'/'\\\\''/g")"
    cat <<'END'
cd "$BOSCO_WORK" 2>/dev/null || exit 81
read -r BOSCO_TOKEN <in || exit 82
{
  printf '%s\n' "$BOSCO_TOKEN"
  uname -n
  uname -m
  getconf GNU_LIBC_VERSION || echo none
} >out.new 2>/dev/null && mv out.new out || exit 83
END
  } >"$BOSCO_WORK/job" && chmod 700 "$BOSCO_WORK/job"
}

# A list of words, where $2 stands for the word or part of a word $1: one per line to standard output.
bosco_login_words() {
  bosco_login_param
  BOSCO_LEFT=$BOSCO_PARAM
  while [ "${BOSCO_LEFT:-0}" -gt 0 ]; do
    bosco_login_param
    case $BOSCO_PARAM in
      *"$1"*) BOSCO_PARAM=${BOSCO_PARAM%%"$1"*}$2${BOSCO_PARAM#*"$1"} ;;
    esac
    printf '%s\n' "$BOSCO_PARAM"
    BOSCO_LEFT=$((BOSCO_LEFT - 1))
  done
}

# bosco_login_with ID FILE: run the command whose words the file holds, with the job's id where it belongs.
bosco_login_with() {
  BOSCO_ID=$1
  BOSCO_LIST=$2
  set --
  while IFS= read -r BOSCO_WORD; do
    [ "$BOSCO_WORD" != @ID@ ] || BOSCO_WORD=$BOSCO_ID
    set -- "$@" "$BOSCO_WORD"
  done <"$BOSCO_LIST"
  bosco_login_run "$@"
}

bosco_login_job_end() {
  [ -z "${BOSCO_JOB:-}" ] || bosco_login_with "$BOSCO_JOB" "$BOSCO_WORK/cancel" >/dev/null 2>&1
  BOSCO_JOB=
  [ -z "${BOSCO_WORK:-}" ] || rm -rf -- "$BOSCO_WORK"
}

# Opening the folder makes NFS ask its server what is in it.
bosco_login_job_is_back() {
  ls "$BOSCO_WORK" >/dev/null 2>&1
  [ -f "$BOSCO_WORK/out" ]
}

bosco_login_submit() {
  set --
  while IFS= read -r BOSCO_WORD; do
    set -- "$@" "$BOSCO_WORD"
  done <"$BOSCO_WORK/submit"
  ${BOSCO_LIMIT:+timeout -s KILL "$BOSCO_LIMIT"} "$@" <"$BOSCO_INPUT"
}

bosco_login_job() {
  bosco_login_words @DIR@ "$BOSCO_WORK" >"$BOSCO_WORK/submit"
  bosco_login_words @DIR@ "$BOSCO_WORK" >"$BOSCO_WORK/state"
  bosco_login_words @DIR@ "$BOSCO_WORK" >"$BOSCO_WORK/cancel"
  bosco_login_words @DIR@ "$BOSCO_WORK" >"$BOSCO_WORK/text"
  bosco_login_param
  BOSCO_ID_PATTERN=$BOSCO_PARAM
  bosco_login_param
  BOSCO_ALIVE=$BOSCO_PARAM
  bosco_login_param
  BOSCO_DECIDED=$BOSCO_PARAM
  BOSCO_INPUT=$BOSCO_WORK/job
  [ ! -s "$BOSCO_WORK/text" ] || BOSCO_INPUT=$BOSCO_WORK/text
  BOSCO_STATUS=0
  bosco_login_submit >"$BOSCO_WORK/said" 2>&1 || BOSCO_STATUS=$?
  BOSCO_JOB=$(sed -n "s/$BOSCO_ID_PATTERN/\\1/p" "$BOSCO_WORK/said" | sed -n '$p')
  if [ "$BOSCO_STATUS" -ne 0 ] || [ -z "$BOSCO_JOB" ]; then
    bosco_login_say JOB refused
    sed 20q "$BOSCO_WORK/said" | bosco_login_clean JOB-SAYS
    return 0
  fi
  bosco_login_say JOB-ID "$BOSCO_JOB"
  bosco_login_watch
}

bosco_login_watch() {
  BOSCO_ENDS=$(($(date +%s) + BOSCO_JOB_S))
  BOSCO_STATE=waits
  BOSCO_POLLS=0
  while ! bosco_login_job_is_back; do
    if [ "$(date +%s)" -ge "$BOSCO_ENDS" ]; then
      bosco_login_say JOB "$BOSCO_STATE"
      bosco_login_clean JOB-SAYS <"$BOSCO_WORK/said"
      return 0
    fi
    if [ "$BOSCO_STATE" = waits ]; then
      bosco_login_with "$BOSCO_JOB" "$BOSCO_WORK/state" >"$BOSCO_WORK/said" 2>&1 || :
      grep -E -q -e "$BOSCO_ALIVE" "$BOSCO_WORK/said" || {
        BOSCO_STATE=ended
        BOSCO_ENDS=$(($(date +%s) + BOSCO_RESULT_S))
        [ -z "$BOSCO_DECIDED" ] || ! grep -E -q -e "$BOSCO_DECIDED" "$BOSCO_WORK/said" || BOSCO_ENDS=0
      }
    fi
    sleep "$BOSCO_PAUSE"
    # A free node answers at once; a full queue is not to be asked five times a second.
    BOSCO_POLLS=$((BOSCO_POLLS + 1))
    [ "$BOSCO_POLLS" -lt 15 ] || BOSCO_PAUSE=2
  done
  BOSCO_JOB=
  bosco_login_say JOB back
  bosco_login_clean JOB-RESULT <"$BOSCO_WORK/out"
}

bosco_login_main() {
  # The profile's noise may lack its last newline.
  printf '\n'
  if [ "$2" != "$BOSCO_TOKEN" ]; then
    bosco_login_say LOGIN reads
    bosco_login_say .
    exit 0
  fi
  bosco_login_say LOGIN complete
  bosco_login_param
  cd -P -- "$HOME" 2>/dev/null || :
  cd -P -- "$BOSCO_PARAM" 2>/dev/null || :
  bosco_login_param
  [ "$BOSCO_PARAM" = - ] || PATH=$BOSCO_PARAM:$PATH
  bosco_login_param
  BOSCO_LIMIT=$BOSCO_PARAM
  command -v timeout >/dev/null 2>&1 || BOSCO_LIMIT=
  # Not every sleep takes fractions.
  BOSCO_PAUSE=0.2
  sleep 0.01 2>/dev/null || BOSCO_PAUSE=1
  bosco_login_environment
  bosco_login_commands
  bosco_login_questions
  bosco_login_param
  BOSCO_JOB_S=$BOSCO_PARAM
  bosco_login_param
  BOSCO_RESULT_S=$BOSCO_PARAM
  if [ "${BOSCO_JOB_S:-0}" -gt 0 ]; then
    trap bosco_login_job_end EXIT
    trap 'exit 1' HUP INT PIPE
    if bosco_login_job_files; then
      bosco_login_job
    else
      bosco_login_say JOB no-folder
    fi
    bosco_login_job_end
  fi
  bosco_login_say .
}

bosco_login_main "$@"
