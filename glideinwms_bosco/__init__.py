# SPDX-License-Identifier: Apache-2.0
"""glideinWMS factory plugin for entries that offer only ssh and a batch queue."""

__version__ = "0.1.0"
