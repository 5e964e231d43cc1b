#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Executed on a worker: many_nodes.sh TUNNEL EGRESS_CONF COUNT. Starts COUNT tunnels at one moment, each in a folder of its
# own as if it were another node. Prints `up FOLDER` or `failed REASON` for each, keeps them until its stdin ends, and then has them
# stopped. TUNNEL is lib/tunnel.sh, packed.
set -u
work=$(mktemp -d) || exit 1
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

# Each in a process of its own, since a tunnel serves the script that has started it.
node() {
    mkdir -m 1777 "$work/$3" && GWMS_BOSCO_TUNNEL_TMP=$work/$3 exec bash -c '
        . "$1"
        if folder=$(gwms_bosco_tunnel_start "$2" 2>&1); then word=up; else word=failed; fi
        printf "%s %s\n" "$word" "$folder"
        read -r -u 9
        [[ $word == failed ]] || gwms_bosco_tunnel_stop "$folder"' node "$1" "$2"
}

exec 9<&0
for ((number = 1; number <= $3; number++)); do
    node "$1" "$2" "$number" </dev/null &
done
wait
