#!/usr/bin/env bash
# The arrows between the folders: model <- messages <- actors -> drivers -> model. bin sees all.
# Prints every #include that goes against them and fails.
set -u
cd "${1:-$(dirname "$0")/..}" || exit 2
wrong=0

# forbid FOLDER PATTERN REASON [EXCEPT]: no #include in FOLDER may match PATTERN; EXCEPT is a
# pattern of file names that may.
forbid() {
  local found
  found=$(grep -rnE --include='*.hpp' --include='*.cpp' --include='*.h' \
            "^[[:space:]]*#[[:space:]]*include[[:space:]]*[<\"]($2)" "$1" 2>/dev/null)
  [ -z "${4:-}" ] || found=$(grep -vE "^($4)" <<<"$found")
  [ -n "$found" ] || return 0
  printf '%s\n    %s\n' "$found" "$3"
  wrong=1
}

for folder in model messages drivers actors bin; do
  [ -n "$(find "$folder" -name '*.cpp' 2>/dev/null)" ] || { echo "no sources in $folder/"; wrong=1; }
done

forbid model 'messages/|drivers/|actors/|bin/|tests/' 'model/ depends on nothing of ours'
forbid messages 'drivers/|actors/|bin/|tests/' 'messages/ depends on model/ only'
forbid drivers 'messages/|actors/|bin/|tests/' 'drivers/ depends on model/ only'
forbid actors 'bin/|tests/' 'actors/ depends on messages/, drivers/ and model/'
forbid bin 'tests/' 'nothing depends on the tests'

forbid model 'caf/' 'model/ knows no actors'
forbid drivers 'caf/' 'drivers/ know no actors: results are values'
forbid model 'spdlog/' 'model/ says what is wrong by its values; it does not log'
forbid model 'libvirt|xenstore|systemd/|sys/|unistd\.h|fcntl\.h|fstream|filesystem|thread|mutex' \
  'model/ does no I/O and has no threads'

libraries='libvirt/|xenstore(_lib)?\.h|xs\.h|xenctrl|libxl'
for folder in messages actors bin; do
  forbid "$folder" "$libraries" 'the hypervisor is called in drivers/ only'
  forbid "$folder" 'pugixml' 'XML is read and written in model/xml/ only'
done
forbid model 'pugixml' 'in model/, XML is read and written in model/xml/ only' 'model/xml/'
forbid drivers 'pugixml' 'a driver may read the XML of its library in its .cpp, not in a header' \
  'drivers/[^:]*\.cpp'

# in_order LAYER ROOM...: inside a layer a room uses those before it only (docs/design.md, "Layers").
in_order() {
  local layer=$1 found room
  shift
  for room in "$layer"/*/; do
    room=$(basename "$room")
    case " $* " in *" $room "*) ;; *) printf '%s/%s/ has no place in the order\n' "$layer" "$room"; wrong=1 ;; esac
  done
  found=$(grep -rnoE --include='*.hpp' --include='*.cpp' "^#include \"$layer/[a-z_]+/" "$layer" |
    awk -F'[/:"]' -v layer="$layer" -v order="$*" '
      BEGIN { split(order, names, " "); for (i in names) place[names[i]] = i + 0 }
      { used = $(NF - 1); if ($2 != used && place[used] >= place[$2]) print $0 "  (in " layer "/" $2 ")" }')
  [ -n "$found" ] || return 0
  printf '%s\n    rooms of %s in order: %s\n' "$found" "$layer" "$*"
  wrong=1
}

in_order model base system property storage device network policy change guest backup xml start
in_order drivers io process server host storage backup guest hypervisor
in_order actors boards common driver storage domain api host

# The first header of a room says what belongs there.
for room in model/*/ model/guest/extensions/ drivers/*/ actors/*/ bin/*/; do
  first=$(printf '%s\n' "$room"*.hpp | head -1)
  head -1 "$first" | grep -q "^// ${room%/}: " && continue
  printf '%s does not begin with what belongs in %s\n' "$first" "$room"
  wrong=1
done

# A part of a domain says in its header which others it needs, by the names of their headers.
header_of() { # MEMBER of domain.hpp
  local class
  class=$(sed -nE "s/^  (domain_[a-z]+) $1\{\*this.*/\1/p" actors/domain/domain.hpp)
  basename "$(grep -lE "^class $class \{" actors/domain/*.hpp)" .hpp
}
parts=$(sed -nE 's/^  domain_[a-z]+ ([a-z]+)\{\*this.*/\1/p' actors/domain/domain.hpp | paste -sd'|')
[ -n "$parts" ] || { echo 'a domain has no parts'; wrong=1; }
for header in actors/domain/*.hpp; do
  part=$(sed -nE 's/^class (domain_[a-z]+) \{/\1/p' "$header")
  said=$(tr '\n' ' ' <"$header" | sed -nE 's|.*/// Needs: ([^.]*)\..*|\1|p' | sed 's|///||; s/ //g; s/nootherpart//')
  name=$(sed -nE "s/^  $part ([a-z]+)\{\*this.*/\1/p" actors/domain/domain.hpp)
  [ -n "$name" ] || continue
  used=$({ sed -nE 's/^  domain_[a-z]+& ([a-z]+)_;/\1/p' "$header" | grep -vx domain
    grep -ohE "\bdomain_\.($parts)\." "$header" $(grep -lE "^[a-z].*\b$part::" actors/domain/*.cpp) |
      sed -E 's/^domain_\.//; s/\.$//'; } | grep -vx "$name" | sort -u |
    while read -r member; do header_of "$member"; done | sort -u | paste -sd,)
  [ "$said" = "$used" ] && continue
  printf '%s says that it needs "%s" and uses "%s"\n' "$header" "$said" "$used"
  wrong=1
done

# Threads of lanes may not use an actor's state: off_thread takes only work that captures none.
if grep -rnE 'lanes_?(->|\.)post\(' actors | grep -v '^actors/common/off_thread.hpp:'; then
  printf '    actors give work to a lane by off_thread only\n'
  wrong=1
fi

# A reply that is dropped, also with the state of an actor, is answered at that moment: own_replies know how.
if grep -rnE '\breply\{\[' actors | grep -v '^actors/common/reply.hpp:'; then
  printf '    a reply that an actor hears itself is made by own_replies\n'
  wrong=1
fi

# A view made in passing ends with its line: who keeps one keeps a copy.
if grep -rnE --include='*.hpp' --include='*.cpp' '^ +(const )?(model::)?view& [a-z_]+;' model messages drivers actors bin; then
  printf '    a view is kept by value\n'
  wrong=1
fi

# A path that cannot be looked at is a result: each call gets an error code to put it in.
calls='exists|is_[a-z]+(_[a-z]+)*|(weakly_)?canonical|absolute|relative|file_size|status|space|create_[a-z]+|rename'
calls+='|remove(_all)?|read_symlink|copy(_[a-z]+)?|equivalent|last_write_time|current_path|resize_file'
calls+='|(recursive_)?directory_iterator'
if grep -rnE --include='*.cpp' --include='*.hpp' "(filesystem|fs)::($calls)[({][^})]" drivers actors bin |
  grep -vE '(failed|failure|ignored|unknown)[;:)}]'; then
  printf '    a call that throws: give it an error code (failed, failure, ignored, unknown)\n'
  wrong=1
fi

# The host's clock is set by others, and goes on while the host sleeps: what waits or limits uses the other one.
# Here a time is told to people or files, given to guests, or compared with one that people wrote.
wall='actors/common/world.hpp|actors/host/runtime.[ch]pp' # who hands the clock on
wall+='|actors/api/(methods|overview|why).cpp|actors/domain/operations.cpp|actors/domain/core.cpp'
wall+='|actors/domain/guest_entries.cpp|actors/domain/(firewall.hpp|netvm.cpp)|actors/host/backup.cpp'
wall+='|drivers/storage/pool.hpp|drivers/backup/tar_writer.cpp|bin/qvmd/main.cpp'
if grep -rnE --include='*.cpp' --include='*.hpp' \
  '\bwall_u?s\b|system_clock|CLOCK_REALTIME|gettimeofday|\btime\((nullptr|NULL|0)\)' model messages drivers actors bin/qvmd |
  grep -vE "^($wall):"; then
  printf '    a time of the clock that others set: what waits uses now_us or steady_clock\n'
  wrong=1
fi

[ "$wrong" = 0 ] && echo 'every include goes the right way'
exit "$wrong"
