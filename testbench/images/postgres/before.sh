#!/bin/sh
# Before the packages are installed into the root $1.
set -eu
# The number that the public image has: volumes of one are readable by the other.
echo 'postgres:x:999:999::/var/lib/postgresql:/bin/bash' >>"$1/etc/passwd"
echo 'postgres:x:999:' >>"$1/etc/group"
# A database made here would be the same in every container.
mkdir -p "$1/etc/postgresql-common"
echo 'create_main_cluster = false' >"$1/etc/postgresql-common/createcluster.conf"
