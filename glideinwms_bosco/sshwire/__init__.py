# SPDX-License-Identifier: Apache-2.0
"""The ssh protocols' bytes: agent messages, userauth, session-bind, KEX evidence, keys and certificates. No I/O."""
