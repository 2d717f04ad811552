#!/usr/bin/env bash
# hardening_test.sh PROGRAM...: each is built so that an attacker can hardly use a fault in memory: at a random
# address, its tables of functions read-only, its stacks and copies checked. Prints what is missing.
set -u
wrong=0

# demand PROGRAM WHAT COMMAND PATTERN
demand() {
  "${@:3:$#-3}" "$1" 2>/dev/null | grep -qE "${*: -1}" && return
  echo "$1: no $2"
  wrong=1
}

for program; do
  [ -x "$program" ] || { echo "$program is not there"; exit 1; }
  demand "$program" 'position-independent code (PIE)' readelf -hW 'Type: +DYN'
  demand "$program" 'read-only relocations (RELRO)' readelf -lW 'GNU_RELRO'
  demand "$program" 'binding at the start (BIND_NOW)' readelf -dW 'BIND_NOW|FLAGS_1.*NOW'
  demand "$program" 'stack protector' readelf -sW '__stack_chk_fail'
  demand "$program" 'checked copies (FORTIFY)' readelf -sW '__[a-z]+_chk@'
  if readelf -lW "$program" | grep -E 'GNU_STACK' | grep -q 'E '; then
    echo "$program: its stack can be executed"
    wrong=1
  fi
done
[ "$wrong" = 0 ] && echo "$# programs are hardened"
exit "$wrong"
