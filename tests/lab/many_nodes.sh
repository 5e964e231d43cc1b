#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Executed on a worker: many_nodes.sh TUNNEL EGRESS_CONF COUNT LIBRARY JOIN. Starts COUNT tunnels at one moment, each in a
# folder of its own as if it were another node, and runs `JOIN NAME` through each. Prints for each `joined BEGAN_S FOLDER`,
# `up BEGAN_S FOLDER` when JOIN has failed, or `failed BEGAN_S REASON`, keeps them until its stdin ends, and then has them
# stopped. TUNNEL is lib/tunnel.sh, packed; LIBRARY that of proxychains.
set -u
work=$(mktemp -d) || exit 1
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

# Each in a process of its own, since a tunnel serves the script that has started it.
node() {
    mkdir -m 1777 "$work/$3" && GWMS_BOSCO_TUNNEL_TMP=$work/$3 exec bash -c '
        . "$1"
        began=$EPOCHSECONDS word=failed
        if said=$(gwms_bosco_tunnel_start "$2" 2>&1); then
            export GWMS_BOSCO_EGRESS_DIR=$said PROXYCHAINS_CONF_FILE=$said/proxychains.conf
            LD_PRELOAD=$4 "$5" "node-$(uname -n)-$3" >/dev/null && word=joined || word=up
        fi
        printf "%s %s %s\n" "$word" "$began" "$said"
        read -r -u 9
        [[ $word == failed ]] || gwms_bosco_tunnel_stop "$said"' node "$@"
}

exec 9<&0
for ((number = 1; number <= $3; number++)); do
    node "$1" "$2" "$number" "$4" "$5" </dev/null &
done
wait
