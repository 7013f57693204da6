#!/bin/sh
# After the packages were installed into the root $1.
set -eu
mkdir -p "$1/docker-entrypoint-initdb.d" "$1/var/lib/mysql" "$1/etc/mysql/conf.d"
chown 999:999 "$1/var/lib/mysql"
