# SPDX-License-Identifier: Apache-2.0
"""The key broker at the VO's frontend: it holds ssh keys and signs what its policy allows."""
