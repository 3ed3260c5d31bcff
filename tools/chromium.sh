#!/bin/sh
# Prints the path of a Chromium for the browser tests: CHROMIUM if set, else an installed one, else
# Debian's, installed here when we are root and apt-get is there. Otherwise says what to do and fails.
set -eu

find_chromium() {
    for name in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$name" && return 0
    done
    return 1
}

if [ -n "${CHROMIUM:-}" ]; then
    if [ ! -x "$CHROMIUM" ]; then
        echo "CHROMIUM names $CHROMIUM, which is no program: set it to the path of a Chromium, or unset it." >&2
        exit 1
    fi
    echo "$CHROMIUM"
    exit 0
fi
find_chromium && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "The browser tests need Chromium: installing Debian's." >&2
    apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >&2
    find_chromium && exit 0
fi
echo "The browser tests need Chromium: install it (Debian: apt-get install chromium) or set CHROMIUM to its path." >&2
exit 1
