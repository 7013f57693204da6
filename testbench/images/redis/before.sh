#!/bin/sh
# Before the packages are installed into the root $1.
set -eu
# The number that the public image has: volumes of one are readable by the other.
echo 'redis:x:999:999::/data:/bin/false' >>"$1/etc/passwd"
echo 'redis:x:999:' >>"$1/etc/group"
