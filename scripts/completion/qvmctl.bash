# Completion of qvmctl's command lines in bash; `qvmctl complete` tells what there is.

# bash splits words at '=' and ':' (COMP_WORDBREAKS); qvmctl gets them as they were typed.
_qvmctl() {
  local rest=${COMP_LINE:0:COMP_POINT} breaks=${COMP_WORDBREAKS//[^=:]/} part line current last
  local -a words=()
  for part in "${COMP_WORDS[@]:0:COMP_CWORD}"; do
    if [[ ${#words[@]} -eq 0 || $rest == [[:space:]]* ]]; then words+=(''); fi
    rest=${rest#"${rest%%[![:space:]]*}"}
    words[-1]+=$part
    rest=${rest#"$part"}
  done
  if [[ $rest == [[:space:]]* ]]; then words+=(''); fi
  words[-1]+=${rest#"${rest%%[![:space:]]*}"}
  current=${words[-1]}
  last=$current # what bash replaces
  if [[ -n $breaks ]]; then last=${current##*["$breaks"]}; fi

  COMPREPLY=()
  while IFS= read -r line; do
    if [[ $line == $'\t'files ]]; then
      compopt -o filenames 2>/dev/null
      mapfile -t COMPREPLY < <(compgen -f -- "${current##*=}")
      return
    fi
    line=${line%%$'\t'*}
    COMPREPLY+=("${line#"${current%"$last"}"}")
  done < <(qvmctl complete -- "${words[@]:1}" 2>/dev/null)
  if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=:] ]]; then compopt -o nospace 2>/dev/null; fi
}

complete -F _qvmctl qvmctl
