#!/bin/sh
# After the packages were installed into the root $1.
set -eu
mkdir -p "$1/data"
chown 999:999 "$1/data"
