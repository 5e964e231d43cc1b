# SPDX-License-Identifier: Apache-2.0
"""Debian's HTCondor, run by an ordinary account with everything that it writes in a folder of the account."""

from __future__ import annotations

PLACES = """\
RELEASE_DIR=/usr
LOCAL_DIR={folder}
LOG=$(LOCAL_DIR)/log
SPOOL=$(LOCAL_DIR)/spool
LOCK=$(LOCAL_DIR)/lock
RUN=$(LOCAL_DIR)/run
EXECUTE=$(LOCAL_DIR)/execute
CRED_STORE_DIR=$(LOCAL_DIR)/cred
SEC_PASSWORD_DIRECTORY=$(LOCAL_DIR)/passwords.d
SEC_TOKEN_DIRECTORY=$(LOCAL_DIR)/tokens.d
SEC_TOKEN_SYSTEM_DIRECTORY=$(LOCAL_DIR)/tokens.d
BIN=/usr/bin
SBIN=/usr/sbin
LIB=/usr/lib
LIBEXEC=/usr/libexec/condor
"""
"""Head of a configuration; its folders are made by who writes it."""
