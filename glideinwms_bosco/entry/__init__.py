# SPDX-License-Identifier: Apache-2.0
"""Factory entry XML: what glideinWMS's reconfig reads from config.d."""
