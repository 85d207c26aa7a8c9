#!/bin/sh
# SPDX-License-Identifier: MIT
# The installed tree, staged in a directory: the units are where systemd looks, it finds nothing wrong with them, and they are
# exposed no more than they were made to be (0.7, of 10).
set -eu

if ! command -v systemd-analyze >/dev/null; then
    echo "SKIPPED: no systemd-analyze here (package systemd)" >&2
    exit 77
fi

stage=$(mktemp -d "${TMPDIR:-/tmp}/hearth-units.XXXXXX")
trap 'rm -rf "$stage"' EXIT
fail() {
    echo "test_units: $*" >&2
    exit 1
}

DESTDIR=$stage meson install -C "$HEARTH_BUILD" --no-rebuild --quiet

units=$(dirname "$(find "$stage" -name hearthd.service)")
[ "$units" != . ] || fail "no hearthd.service was installed"
for file in hearthd.socket hearthd@.service hearthd@.socket; do
    [ -f "$units/$file" ] || fail "$file was not installed"
done
[ "$(find "$stage" -path '*/sysusers.d/hearth.conf' -o -path '*/tmpfiles.d/hearth.conf' | wc -l)" -eq 2 ] ||
    fail "sysusers.d or tmpfiles.d is not complete"
! grep -n '@[A-Z_]*@' "$units"/hearthd* || fail "a placeholder was left in a unit"

# verify wants to see the programs: let the units name the staged ones.
mkdir "$stage/units"
for unit in hearthd.service hearthd.socket hearthd@.service hearthd@.socket; do
    sed "s,^\(Exec[A-Za-z]*=\)/,\1$stage/," "$units/$unit" >"$stage/units/$unit"
done
cp "$stage/units/hearthd@.service" "$stage/units/hearthd@one.service"
cp "$stage/units/hearthd@.socket" "$stage/units/hearthd@one.socket"
for unit in hearthd.service hearthd.socket hearthd@one.service hearthd@one.socket; do
    said=$(SYSTEMD_UNIT_PATH="$stage/units:" systemd-analyze verify --man=no "$stage/units/$unit" 2>&1) ||
        fail "verify $unit: $said"
    [ -z "$said" ] || fail "verify $unit: $said"
done

for unit in hearthd.service hearthd@one.service; do
    systemd-analyze security --offline=yes --threshold=7 "$stage/units/$unit" >"$stage/report" 2>&1 || {
        cat "$stage/report" >&2
        fail "$unit is exposed more than 0.7"
    }
    tail -n 1 "$stage/report"
done

if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers --dry-run "$(find "$stage" -path '*/sysusers.d/hearth.conf')" >/dev/null
fi
