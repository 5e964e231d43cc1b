# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# PAC files are JavaScript, and nothing on a node can be trusted to run that. So only those are used whose answer does not
# depend on anything: one function FindProxyForURL with one `return` of one string. Any other is skipped, and it is said.

# Files that are fetched, bytes of one, and seconds for all together.
GWMS_BOSCO_PAC_MAX=8
GWMS_BOSCO_PAC_MAX_BYTES=65536
GWMS_BOSCO_PAC_S=2

# gwms_bosco_pac_proxies URLS (one a line): print `URL proxy HOST:PORT` or `URL no REASON`, in the order of URLS.
gwms_bosco_pac_proxies() {
    local url index=0
    local -a urls=()
    while read -r url; do
        [[ -n $url ]] || continue
        if [[ ${#urls[@]} -ge $GWMS_BOSCO_PAC_MAX ]]; then
            echo "- no only the first $GWMS_BOSCO_PAC_MAX files are asked for"
            break
        fi
        urls+=("$url")
    done <<<"$1"
    [[ ${#urls[@]} -gt 0 ]] || return 0
    pac_folder=$(mktemp -d "$GWMS_BOSCO_DIR/pac.XXXXXX") || { echo '- no no room for a file'; return 0; }
    pac_count=${#urls[@]}
    gwms_bosco_fetch_all gwms_bosco_pac_done "$((SECONDS + GWMS_BOSCO_PAC_S))" gwms_bosco_pac_one "${urls[@]}"
    for url in "${urls[@]}"; do
        # What was fetched is from outside; the file has our words before it.
        if [[ -s $pac_folder/$index.lines ]]; then
            while read -r word; do
                printf '%s %s\n' "$(gwms_bosco_report_safe "$url" 80)" "$word"
            done <"$pac_folder/$index.lines"
        else
            printf '%s no no answer in time\n' "$(gwms_bosco_report_safe "$url" 80)"
        fi
        index=$((index + 1))
    done
    rm -rf "$pac_folder"
}

gwms_bosco_pac_done() {
    local -a lines=("$pac_folder"/*.lines)
    [[ -e ${lines[0]} && ${#lines[@]} -ge $pac_count ]]
}

# gwms_bosco_pac_one INDEX URL: INDEX.lines with the answer of one file.
gwms_bosco_pac_one() {
    local -x LC_ALL=C file=$pac_folder/$1 answer
    if [[ ! $2 =~ ^http://[][A-Za-z0-9._:-]+(/[A-Za-z0-9._~:@!+=%/-]*)?$ ]]; then
        echo 'no not an http URL' >"$file.new"
    elif ! answer=$(gwms_bosco_fetch "$file" "$GWMS_BOSCO_PAC_S" '' "$2"); then
        printf 'no %s\n' "$answer" >"$file.new"
    elif [[ $(gwms_bosco_fetch_body "$file" | wc -c) -gt $GWMS_BOSCO_PAC_MAX_BYTES ]]; then
        printf 'no more than %s bytes\n' "$GWMS_BOSCO_PAC_MAX_BYTES" >"$file.new"
    elif ! answer=$(gwms_bosco_fetch_body "$file" | gwms_bosco_pac_answer); then
        printf 'no %s\n' "$answer" >"$file.new"
    else
        gwms_bosco_pac_words "$answer" >"$file.new"
    fi
    mv "$file.new" "$file.lines"
}

# gwms_bosco_pac_words ANSWER: `proxy HOST:PORT` or `no REASON` for each part of what FindProxyForURL returns.
gwms_bosco_pac_words() {
    local -x LC_ALL=C part kind rest seen=''
    while read -r kind rest; do
        [[ -n $kind ]] || continue
        seen=yes
        part=$(gwms_bosco_report_safe "$kind $rest" 60)
        case ${kind^^} in
            PROXY | HTTP)
                if [[ $rest =~ ^[][A-Za-z0-9._:-]+$ ]]; then
                    echo "proxy $rest"
                else
                    echo "no $part is no PROXY HOST:PORT"
                fi
                ;;
            DIRECT) echo 'no DIRECT is no proxy' ;;
            SOCKS*) echo "no $part is ignored, as neither CVMFS nor Frontier can use it" ;;
            *) echo "no $part is no http proxy" ;;
        esac
    done < <(printf '%s\n' "${1:0:4096}" | tr ';' '\n')
    [[ -n $seen ]] || echo 'no its answer is empty'
}

# gwms_bosco_pac_answer: the string that the PAC file on stdin returns whatever it is asked; else 1 and why.
gwms_bosco_pac_answer() {
    local -x LC_ALL=C code text name='[A-Za-z_$][A-Za-z0-9_$]*' s=$'[ \n]*' shape
    # The marks stand for a string, for blanks with and without a line's end.
    text=$(tr '\000\r' '\001\n' | gwms_bosco_pac_plain) || { printf '%s' "$text"; return 1; }
    code=${text#*$'\n'}
    text=${text%%$'\n'*}
    # No line may end between `return` and the string: JavaScript would end the statement there and return nothing.
    shape="^${s}function[ "$'\n'"]+FindProxyForURL$s\\($s$name$s,$s$name$s\\)$s\\{${s}return ?(\"|\\($s\"$s\\))$s;?$s\\}$s;?$s\$"
    if [[ $code =~ $shape ]]; then
        printf '%s' "$text"
        return 0
    fi
    case $code in
        *if* | *\?* | *\&\&* | *'||'* | *switch* | *for* | *while*) echo 'its answer has conditions' ;;
        *FindProxyForURL*) echo 'its answer is not one return of one string' ;;
        *) echo 'it has no FindProxyForURL: no PAC file' ;;
    esac
    return 1
}

# The file on stdin without comments: first the line with its last string, then the code, where " stands for a string and
# one blank or line end for any number of them. 1 and why, if it cannot be read so.
gwms_bosco_pac_plain() {
    awk '
    function code(c) {
        if (c == " " || c == "\t" || c == "\n") { if (blank != "\n") blank = (c == "\n") ? "\n" : " "; return }
        if (blank != "") { out = out blank; blank = "" }
        out = out c
    }
    { file = file $0 "\n" }
    END {
        # Characters that end a line for JavaScript and not for anybody else.
        if (index(file, "\342\200\250") || index(file, "\342\200\251")) { print "it has odd line ends"; exit 1 }
        n = length(file)
        for (i = 1; i <= n; i++) {
            c = substr(file, i, 1)
            pair = substr(file, i, 2)
            if (quote != "") {
                if (c == "\\" || c == "\n") { print "a string in it has a backslash or no end"; exit 1 }
                if (c == quote) { quote = ""; strings++ } else text = text c
            } else if (line) {
                if (c == "\n") { line = 0; code(c) }
            } else if (block) {
                if (pair == "*/") { block = 0; i++; code(" ") } else if (c == "\n") code(c)
            } else if (pair == "//") { line = 1; i++ }
            else if (pair == "/*") { block = 1; i++ }
            else if (c == "\"" || c == "\047") { quote = c; text = ""; code("\"") }
            else code(c)
        }
        if (quote != "" || block) { print "a string or comment in it has no end"; exit 1 }
        print text
        print out
    }'
}
