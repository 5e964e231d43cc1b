# SPDX-License-Identifier: Apache-2.0
"""SITECONF: the tree that tells a CMS job how it reads data, where it writes and which proxy it asks."""
