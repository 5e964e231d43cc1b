# SPDX-License-Identifier: Apache-2.0
"""Pilot scripts under the contract of glideinWMS, on nodes that are made to lack things."""
