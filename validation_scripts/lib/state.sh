# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# The pilot's state folder, where scripts leave what later ones and the payload wrapper need.

# gwms_bosco_state_open: set GWMS_BOSCO_DIR, make the folder unless it is there, and write it to glidein_config.
# It must lie beside the job wrapper, which looks for it there: in the pilot's folder, where scripts are run.
gwms_bosco_state_open() {
    local known
    GWMS_BOSCO_DIR=$PWD/gwms_bosco
    known=$(gwms_bosco_config_get GWMS_BOSCO_DIR)
    [[ -z $known || $known == "$GWMS_BOSCO_DIR" ]] || {
        echo "GWMS_BOSCO_DIR is $(gwms_bosco_report_safe "$known" 80) and not below the pilot's folder" >&2
        return 1
    }
    if [[ ! $GWMS_BOSCO_DIR =~ ^/[A-Za-z0-9_./:,@%+=-]+$ ]]; then
        echo "the pilot's folder has white space or odd characters: $(gwms_bosco_report_safe "$PWD" 80)" >&2
        return 1
    fi
    (umask 077 && mkdir -p "$GWMS_BOSCO_DIR") 2>/dev/null || gwms_bosco_state_unwritable || return 1
    [[ -O $GWMS_BOSCO_DIR && ! -L $GWMS_BOSCO_DIR ]] || {
        echo "$GWMS_BOSCO_DIR is not the pilot's own folder" >&2
        return 1
    }
    [[ -n $known ]] || gwms_bosco_config_set GWMS_BOSCO_DIR "$GWMS_BOSCO_DIR" || gwms_bosco_state_unwritable
}

gwms_bosco_state_unwritable() {
    echo "cannot write the state folder $GWMS_BOSCO_DIR" >&2
    return 1
}

# gwms_bosco_state_program NAME: put the program on stdin there, executable, at once.
gwms_bosco_state_program() {
    local file=$GWMS_BOSCO_DIR/$1
    (umask 077 && cat >"$file.new") && chmod 0700 "$file.new" && mv -f "$file.new" "$file" && return 0
    rm -f "$file.new"
    return 1
}

# gwms_bosco_state_read FILE KEY [DEFAULT]: a value of a KEY=VALUE file there; DEFAULT when file or key is absent.
gwms_bosco_state_read() {
    local value=''
    [[ ! -r $GWMS_BOSCO_DIR/$1 ]] || value=$(gwms_bosco_conf_read "$GWMS_BOSCO_DIR/$1" "$2")
    printf '%s' "${value:-${3-}}"
}
