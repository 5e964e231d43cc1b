# SPDX-License-Identifier: Apache-2.0
"""The connection between a frontend's broker and a factory's relay: frames, messages, pinned TLS."""
