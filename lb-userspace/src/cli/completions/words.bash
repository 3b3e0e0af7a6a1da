
# Backends that were found by name have an @ in theirs, and perhaps colons: bash ends a word there, and
# wants no more than what comes after it.
_fairlead() {
    local line=${COMP_LINE:0:COMP_POINT} index
    local -a COMP_WORDS=()
    read -ra COMP_WORDS <<< "$line"
    if [[ $line == *[[:space:]] ]]; then
        COMP_WORDS+=("")
    fi
    local COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    local word=${COMP_WORDS[COMP_CWORD]}
    local kept=${word%"$2"}
    _clap_complete_fairlead "$1" "$word" "$3"
    for index in "${!COMPREPLY[@]}"; do
        COMPREPLY[index]=${COMPREPLY[index]#"$kept"}
    done
}
complete -o nospace -o bashdefault -F _fairlead fairlead
