# SPDX-License-Identifier: Apache-2.0
"""The relay at the factory: agent sockets without keys, which ask a broker for each signature."""
