#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# The job of `gwms-bosco remote test`. $1 = exit code to end with, $2 = seconds to run.
# Its input file holds a word made for this run; the word must come back by both ways that a pilot's output takes:
# standard output and an output file.
bosco_test_main() {
    word=$(cat test_word) || return 97
    printf 'node %s\nuser %s\nword %s\n' "$(uname -n)" "$(id -un)" "$word"
    # The launcher of the bundle exports it; batch systems that pass the environment on show which version submitted.
    [ -z "${GLITE_LOCATION:-}" ] || printf 'version %s\n' "${GLITE_LOCATION##*/}"
    printf '%s\n' "$word" > test_result || return 98
    sleep "${2:-0}"
    return "$1"
}
bosco_test_main "$@"
