# Completion for qvmctl: commands and options from the program itself, names from the daemon.

_qvmctl_names() {
  timeout 1 qvmctl ls --columns name --format csv 2>/dev/null | tail -n +2
}

_qvmctl() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} word choices
  local -a words=()
  for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    [[ $word == -* ]] || words+=("$word")
  done

  case $previous in
    -f|--format) choices='table csv json' ;;
    -o|--columns) choices='all name state class label template netvm ip provides_network memory maxmem xid uuid degraded' ;;
    --exclude) choices=$(_qvmctl_names) ;;
    --socket|--passphrase-file|--to|--profiles) COMPREPLY=($(compgen -f -- "$current")); return ;;
    --for)
      [[ ${words[0]} == wait ]] && choices='Halted Transient Running Paused Suspended Halting Dying Crashed' ;;
    *)
      if [[ $current == -* ]]; then
        choices=$(qvmctl help --words -- "${words[@]}" 2>/dev/null)
      elif (( ${#words[@]} == 0 )); then
        choices=$(qvmctl help --words 2>/dev/null)
      else
        case ${words[0]} in
          help) choices=$(qvmctl help --words 2>/dev/null) ;;
          backup)
            if (( ${#words[@]} == 1 )); then
              choices=$(qvmctl help --words backup 2>/dev/null)
            elif (( ${#words[@]} == 2 )) && [[ ${words[1]} != create ]]; then
              COMPREPLY=($(compgen -f -- "$current"))
              return
            elif [[ ${words[1]} == create ]]; then
              choices="$(_qvmctl_names) $(timeout 1 qvmctl backup ls -f csv 2>/dev/null | tail -n +2 | cut -d, -f1)"
            fi ;;
          feature|tag|service|notes|firewall|device|volume|pool|label|kernel|disposable)
            if (( ${#words[@]} == 1 )); then
              choices=$(qvmctl help --words "${words[0]}" 2>/dev/null)
            elif (( ${#words[@]} == 2 )); then
              choices=$(_qvmctl_names)
            elif [[ ${words[0]} == @(feature|tag|service) && ${words[1]} != add && ${words[1]} != set ]]; then
              choices=$(timeout 1 qvmctl "${words[0]}" ls "${words[2]}" --format csv 2>/dev/null \
                        | tail -n +2 | cut -d, -f1)
            fi ;;
          get|set|reset)
            if (( ${#words[@]} == 1 )); then
              choices="@host $(_qvmctl_names)"
            elif (( ${#words[@]} == 2 )) || [[ ${words[0]} == reset ]]; then
              choices=$(timeout 1 qvmctl get "${words[1]}" --format csv 2>/dev/null \
                        | tail -n +2 | cut -d, -f1)
            fi ;;
          tree|status|api) ;;
          *) choices=$(_qvmctl_names) ;;
        esac
      fi ;;
  esac
  COMPREPLY=($(compgen -W "$choices" -- "$current"))
}

complete -F _qvmctl qvmctl
