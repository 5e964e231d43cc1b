#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Goes before begin.sh, which sets a umask of its own: what the account's sessions get.
BOSCO_UMASK=$(umask)
export BOSCO_UMASK
