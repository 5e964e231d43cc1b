# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for programs and servers that no package registry has; each says in its first lines what it does."""
