# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# shellcheck disable=SC2034 # tunnel_again_*port: of lib/tunnel.sh
# A wrapper whose supervisor of the tunnel was killed alone, by a payload or for want of memory, gets another: on the same
# ports, as the pilot knows no others. It waits for the lock as any does, so that there are never two who run ssh. egress_check
# cannot do it: it runs in the pilot's container, where there may be no ssh, and HTCondor ends what it starts.

# Seconds after which a supervisor that is killed again is replaced; doubled each time, up to those between logins that are
# refused.
GWMS_BOSCO_TUNNEL_AGAIN_S=${GWMS_BOSCO_TUNNEL_AGAIN_S:-10}

# gwms_bosco_tunnel_again CONF_FILE FOLDER: replace the supervisor of the calling script ($$) where it was killed; 0 when
# another begins. To be called now and then, by one and the same child of the script. CONF_FILE is what it was at the start,
# byte by byte: the folder is found by its digest.
gwms_bosco_tunnel_again() {
    if [[ -z ${tunnel_again_pid-} ]]; then
        tunnel_again_start='' tunnel_again_next=0 tunnel_again_pause=$GWMS_BOSCO_TUNNEL_AGAIN_S
        tunnel_again_port='' tunnel_again_web_port=''
        if gwms_bosco_tunnel_place_own "$2"; then
            { read -r tunnel_again_pid tunnel_again_start <"$2/$(gwms_bosco_tunnel_place_file)"; } 2>/dev/null
            # For the case that the folder does not stay.
            tunnel_again_port=$(gwms_bosco_egress_port "$2" PROXY) tunnel_again_web_port=$(gwms_bosco_egress_port "$2" WEB)
        fi
        tunnel_again_pid=${tunnel_again_pid:-gone}
    fi
    if gwms_bosco_limit_alive "$tunnel_again_pid" "$tunnel_again_start"; then
        [[ $SECONDS -lt $tunnel_again_next ]] || tunnel_again_pause=$GWMS_BOSCO_TUNNEL_AGAIN_S
        return 1
    fi
    [[ $SECONDS -ge $tunnel_again_next ]] || return 1
    tunnel_again_next=$((SECONDS + tunnel_again_pause)) tunnel_again_pause=$((tunnel_again_pause * 2))
    [[ $tunnel_again_pause -le $GWMS_BOSCO_TUNNEL_REFUSED_S ]] || tunnel_again_pause=$GWMS_BOSCO_TUNNEL_REFUSED_S
    gwms_bosco_tunnel_supervise "$1" "$$" "${tunnel_script_start:-$(gwms_bosco_limit_start "$$")}" again >/dev/null &
    tunnel_again_pid=$! tunnel_again_start=$(gwms_bosco_limit_start "$!")
}
