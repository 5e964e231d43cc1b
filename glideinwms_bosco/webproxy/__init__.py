# SPDX-License-Identifier: Apache-2.0
"""Web proxies and what they bear: capacity, the budget over all entries that share one, the load that was measured."""
