#!/usr/bin/env bash
# Fetches whole files into the folder that OVERBOOK_DATA names, each checked against its pinned SHA-256.
# What a run leaves unfinished is continued by the next one; no file has its name before its bytes are the right ones.
set -euo pipefail

usage() {
  cat <<'END'
Usage: OVERBOOK_DATA=/absolute/path scripts/fetch-data.sh [--base URL] [FILE...]
       scripts/fetch-data.sh --list

Without FILE: every file that has a pinned hash and a public address (0.6 GB, nearly all of it BurstGPT). Files that are
there are checked and stay. FILE is a path as --list prints it.

  --list      path, SHA-256 and address of each file, separated by tabs
  --base URL  fetch URL/PATH instead of the public addresses: a mirror with the layout of OVERBOOK_DATA, which may also have
              the files without a public address

Exit codes: 0 all there, 1 something is missing or not what was pinned, 2 wrong arguments.
END
}

pins="$(dirname "${BASH_SOURCE[0]}")/fetch-data.tsv"
base=
list=
wanted=()
while [ $# -gt 0 ]; do
  case "$1" in
    --list) list=1 ;;
    --base) [ $# -gt 1 ] || { usage >&2; exit 2; }; base="${2%/}"; shift ;;
    -h | --help) usage; exit 0 ;;
    -*) echo "error: no option $1" >&2; usage >&2; exit 2 ;;
    *) wanted+=("$1") ;;
  esac
  shift
done

rows() { grep -v '^#' "$pins"; }

# Whether $1 is among the other arguments.
among() {
  local one=$1 other
  shift
  for other in "$@"; do [ "$one" != "$other" ] || return 0; done
  return 1
}

if [ -n "$list" ]; then
  rows | while IFS=$'\t' read -r path hash url; do
    [ "$hash" != - ] || hash="no pinned hash known"
    [ "$url" != - ] || url="no public address"
    printf '%s\t%s\t%s\n' "$path" "$hash" "$url"
  done
  exit 0
fi

case "${OVERBOOK_DATA:-}" in
  /*) ;;
  *) echo "error: set OVERBOOK_DATA to the absolute path of a folder" >&2; exit 2 ;;
esac
known=$(rows | cut -f1)
for path in ${wanted[@]+"${wanted[@]}"}; do
  # shellcheck disable=SC2086 # No path has a space.
  among "$path" $known || { echo "error: no file $path; --list prints them" >&2; exit 2; }
done

hash_of() { sha256sum "$1" | cut -d' ' -f1; }

# Fetches $1 into the file $2, from where that file ends.
fetch() { curl --fail --location --silent --show-error --retry 3 --continue-at - --output "$2" "$1"; }

# Fetches $1 into the file $2, of which there may be a part; its hash shall be $3. An interrupted transfer leaves its part.
fetch_all() {
  local code=0
  if [ -e "$2" ]; then
    [ "$(hash_of "$2")" != "$3" ] || return 0
    fetch "$1" "$2" || code=$?
    case "$code" in
      0) [ "$(hash_of "$2")" != "$3" ] || return 0 ;;
      22 | 33 | 36) ;; # The server cannot continue what is there.
      *) return 1 ;;
    esac
    # Not a part of this file.
    rm -f "$2"
  fi
  fetch "$1" "$2"
}

# Puts the file $2 from the address $1 to its place if its hash is $3.
get() {
  local got
  mkdir -p "$(dirname "$2")"
  fetch_all "$1" "$2.partial" "$3" || return 1
  got=$(hash_of "$2.partial")
  if [ "$got" != "$3" ]; then
    rm -f "$2.partial"
    echo "error: $1 has SHA-256 $got, pinned is $3; nothing is kept of it" >&2
    return 1
  fi
  mv "$2.partial" "$2"
}

failed=0
asked=${#wanted[@]}
while IFS=$'\t' read -r path hash url <&3; do
  if [ "$asked" -gt 0 ] && ! among "$path" "${wanted[@]}"; then continue; fi
  file="$OVERBOOK_DATA/$path"
  [ -z "$base" ] || url="$base/$path"
  if [ "$hash" = - ]; then
    echo "$path: no pinned hash known, not fetched" >&2
    [ "$asked" = 0 ] || failed=1
  elif [ -e "$file" ]; then
    if [ "$(hash_of "$file")" = "$hash" ]; then
      echo "$path: there"
    else
      echo "error: $file has not the pinned SHA-256 $hash; remove it to fetch it again" >&2
      failed=1
    fi
  elif [ "$url" = - ]; then
    # Only a mirror has it. Without FILE it is passed over: --list names it.
    if [ "$asked" -gt 0 ]; then
      echo "error: $path: no public address; fetch it with --base URL" >&2
      failed=1
    fi
  elif get "$url" "$file" "$hash"; then
    echo "$path: fetched"
  else
    echo "error: $path: not fetched" >&2
    failed=1
  fi
done 3< <(rows)
exit "$failed"
