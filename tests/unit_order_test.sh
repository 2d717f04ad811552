#!/usr/bin/env bash
# tests/unit_order_test.sh ROOT: the order in which systemd starts and stops scripts/qvmd.service and
# units of the stock packages. To find the order of two units, a third unit demands the opposite order:
# systemd-analyze finds a cycle where the two are ordered, and none where they are not.
set -euo pipefail
root=${1:?"usage: unit_order_test.sh ROOT"}
if ! command -v systemd-analyze >/dev/null || ! command -v systemctl >/dev/null; then
  echo "systemd is not installed"
  exit 77
fi

# These settings would hold for the daemons of running domains, and for dom0's services, as well.
inherited='^(Private|Protect|ReadOnly|ReadWrite|Inaccessible|UMask|OOMScore|Limit|Capability|Ambient|SystemCall|Restrict|Lock|NoNewPrivileges|MemoryDeny|DynamicUser|User=|Group=)'
if grep -nE "$inherited" "$root/scripts/qvmd.service"; then
  echo "these reach qvmd's children"
  exit 1
fi

top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
units=$top/usr/lib/systemd/system
mkdir -p "$units" "$top/etc/systemd/system" "$top/usr/bin"
for program in true qvmd; do
  printf '#!/bin/sh\n' >"$top/usr/bin/$program"
  chmod 755 "$top/usr/bin/$program"
done
for target in sysinit basic shutdown umount multi-user local-fs remote-fs; do
  echo '[Unit]' >"$units/$target.target"
done
for slice in system -; do
  echo '[Slice]' >"$units/$slice.slice"
done

# unit NAME [LINE...]: a service with these lines about its order.
unit() {
  local name=$1
  shift
  printf '%s\n' '[Unit]' "$@" '[Service]' 'Type=oneshot' 'RemainAfterExit=yes' \
    'ExecStart=/usr/bin/true' >"$units/$name"
}

earlier=(qubes-db-dom0 libvirtd virtxend virtnodedevd qubes-qmemman xenstored lvm2-pvscan@x)
later=(qubes-vm@x qubes-core qubes-preload-dispvm qubes-qrexec-policy-daemon systemd-user-sessions)
for name in qubes-db-dom0 libvirtd virtxend virtnodedevd qubes-qmemman xenstored xenconsoled \
  qubes-meminfo-writer-dom0 systemd-user-sessions; do
  unit "$name.service"
done
printf '%s\n' '[Unit]' '[Socket]' 'ListenStream=/run/virtxend' >"$units/virtxend.socket"
# The order that the units of R4.3 ask for.
unit qubesd.service Before=systemd-user-sessions.service After=remote-fs.target \
  'After=qubes-db-dom0.service libvirtd.service virtxend.service virtnodedevd.service qubes-qmemman.service'
unit lvm2-pvscan@.service Before=qubesd.service
unit qubes-vm@.service 'After=qubesd.service qubes-meminfo-writer-dom0.service' \
  Before=qubes-preload-dispvm.service
unit qubes-core.service 'After=qubes-db-dom0.service libvirtd.service virtxend.socket' \
  'After=xenconsoled.service qubesd.service qubes-qmemman.service'
unit qubes-preload-dispvm.service 'After=qubesd.service qubes-meminfo-writer-dom0.service'
unit qubes-qrexec-policy-daemon.service After=qubesd.service

cp "$root/scripts/qvmd.service" "$top/etc/systemd/system/"
systemctl -q --root="$top" enable qvmd.service
systemd-analyze --root="$top" --man=no verify qvmd.service

failed=0
# ordered FIRST SECOND: whether systemd starts them one after the other.
ordered() {
  unit backwards.service "Requires=$1.service $2.service" "After=$2.service" "Before=$1.service"
  ! systemd-analyze --root="$top" --man=no verify backwards.service 2>"$top/said" \
    && grep -q 'ordering cycle' "$top/said"
}
for name in "${earlier[@]}"; do
  ordered "$name" qvmd || { echo "$name does not come before qvmd"; failed=1; }
done
for name in "${later[@]}"; do
  ordered qvmd "$name" || { echo "$name does not come after qvmd"; failed=1; }
done
ordered qubes-db-dom0 qubes-core || { echo "this test misses an order of the stock units"; failed=1; }
for pair in 'qubes-core qubes-db-dom0' 'qubes-qmemman libvirtd' 'libvirtd qubes-qmemman'; do
  read -r first second <<<"$pair"
  if ordered "$first" "$second"; then
    echo "this test finds an order where there is none: $pair"
    failed=1
  fi
done
exit "$failed"
