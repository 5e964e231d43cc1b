# SPDX-License-Identifier: Apache-2.0
"""What launcher, ssh shim and tap agree upon; loads nothing.

The launcher speaks to the shim past remote_gahp, by environment variables.
"""

from __future__ import annotations

HANDLE_CONF = "GWMS_SSH_HANDLE_CONF"
"""Path of the handle's ssh configuration."""
HANDLE = "GWMS_SSH_HANDLE"
SSH = "GWMS_SSH_CLIENT"
"""Path of the real ssh."""
DEFAULT_SSH = "/usr/bin/ssh"

FACTORY_CONF = "factory.conf"
"""File in the socket folder that includes the factory's own ssh configuration."""
