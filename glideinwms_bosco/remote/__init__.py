# SPDX-License-Identifier: Apache-2.0
"""Everything that happens on a login node: OpenSSH transport, deploy, and the client settings the factory needs."""
