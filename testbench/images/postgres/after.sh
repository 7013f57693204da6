#!/bin/sh
# After the packages were installed into the root $1.
set -eu
# A key that is in an image is no secret, and differs from build to build.
rm -f "$1/etc/ssl/private/ssl-cert-snakeoil.key" "$1/etc/ssl/certs/ssl-cert-snakeoil.pem"
find "$1/etc/ssl/certs" -lname '*snakeoil*' -delete
# Half of the image, for queries that no test has: without this file the server compiles none.
rm -rf "$1"/usr/lib/postgresql/15/lib/llvmjit.so "$1"/usr/lib/postgresql/15/lib/bitcode
find "$1/usr/lib" -name 'libLLVM-*' -delete
sed -i "s/^#listen_addresses = 'localhost'/listen_addresses = '*'/" \
    "$1/usr/share/postgresql/15/postgresql.conf.sample"
grep -q "^listen_addresses = '\*'" "$1/usr/share/postgresql/15/postgresql.conf.sample"
mkdir -p "$1/docker-entrypoint-initdb.d"
