#!/bin/sh
# Prints the folder of PostgreSQL's initdb and pg_ctl for the tests: that of the one on PATH, else Debian's
# newest one, else Debian's, installed here when we are root and apt-get is there. Otherwise says what to
# do and fails.
set -eu

find_postgres() {
    if command -v initdb >/dev/null && command -v pg_ctl >/dev/null; then
        dirname "$(command -v initdb)"
        return 0
    fi
    found=$(ls -d /usr/lib/postgresql/*/bin/initdb 2>/dev/null | sort -V | tail -n 1)
    [ -n "$found" ] && dirname "$found"
}

find_postgres && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "The tests on PostgreSQL need its server: installing Debian's." >&2
    mkdir -p /etc/postgresql-common
    [ -e /etc/postgresql-common/createcluster.conf ] ||
        echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf  # the tests make their own
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >&2
    find_postgres && exit 0
fi
echo "The tests on PostgreSQL need its server: install it (Debian: apt-get install postgresql) or put initdb and" \
    "pg_ctl on PATH. \"make test POSTGRES=no\" leaves these tests out." >&2
exit 1
