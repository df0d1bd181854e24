#!/bin/sh
# Make .venv in the current folder, or bring it up to date with requirements.lock. Does nothing if it is.
# PYTHON=... names the interpreter; else the best one on the PATH is taken.
set -u

fail() {
    printf '\nfacexkit: %s\n' "$1" >&2
    shift
    for line in "$@"; do printf '  %s\n' "$line" >&2; done
    exit 1
}

stamp=".venv/facexkit-ready"
wanted="$(cat requirements.lock pyproject.toml | cksum) $(pwd)"
[ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && exit 0

if [ "$(uname -s)-$(uname -m)" = Darwin-x86_64 ]; then
    fail "PyTorch has no current release for Macs with an Intel processor." \
        "Use a Mac with Apple silicon (and its own Python, not one under Rosetta) or Linux."
fi

version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

pick_python() {
    found=""
    for candidate in ${PYTHON:+"$PYTHON"} $([ -n "${PYTHON:-}" ] || echo python3.11 python3.12 python3.13 python3.10 python3); do
        version=$(version_of "$candidate") || continue
        found="$found$candidate is Python $version; "
        is_new_enough "$candidate" || continue
        if "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            python=$candidate
            return
        fi
        no_venv=$version
    done
    if [ -n "${no_venv:-}" ]; then
        fail "Python $no_venv is here, but its venv module is not." \
            "On Debian and Ubuntu: sudo apt-get install python$no_venv-venv" "Then run make again."
    fi
    fail "Python 3.10 or newer is needed (${found:-no ${PYTHON:-python3} was found}see below)." \
        "Install Python 3.11 (Debian and Ubuntu: python3.11 and python3.11-venv; macOS: brew install python@3.11)," \
        "or name one that you have: make demo PYTHON=/path/to/python3.11"
}

free_gb() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print int($4 / 1048576) }'; }

need_space() { # FOLDER GIGABYTES WHAT
    free=$(free_gb "$1")
    if [ -n "$free" ] && [ "$free" -lt "$2" ]; then
        fail "the disk of $1 has $free GB free; $3 needs about $2 GB." "Free some space there${4:-}, then run make again."
    fi
}

# What an interrupted install left cannot be trusted; neither can a folder that was moved, nor one without its Python.
if [ -e .venv/unfinished ] || { [ -d .venv ] && ! is_new_enough .venv/bin/python; } ||
    { [ -e "$stamp" ] && [ "$(sed 's/^[0-9]* [0-9]* //' "$stamp")" != "$(pwd)" ]; }; then
    echo "facexkit: making .venv anew"
    rm -rf .venv
fi

if [ ! -d .venv ]; then
    pick_python
    installed=3 unpacking=2
    [ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] && installed=8 unpacking=4
    need_space . "$installed" "the installation"
    need_space "${TMPDIR:-/tmp}" "$unpacking" "unpacking" ", or set TMPDIR to a folder on another disk"
    echo "facexkit: making .venv with Python $(version_of "$python")"
    mkdir .venv && touch .venv/unfinished &&
        "$python" -m venv .venv || fail "Python could not make .venv; its own message is above."
fi

quiet=""
[ -e "$stamp" ] && quiet=--quiet && echo "facexkit: bringing .venv up to date"
touch .venv/unfinished
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }
if ! { pip install $quiet -r requirements.lock && pip install --quiet --no-deps --no-build-isolation -e .; }; then
    rm -f .venv/unfinished
    fail "pip could not install everything; its own message is above." \
        "No connection: check the network and proxy (HTTPS_PROXY), then run make again; what was fetched is kept." \
        "No space left: $(free_gb .) GB are free here, $(free_gb "${TMPDIR:-/tmp}") GB in ${TMPDIR:-/tmp} (TMPDIR names another folder)." \
        "No matching distribution: take another Python, as in make demo PYTHON=python3.11"
fi
printf '%s\n' "$wanted" >"$stamp"
rm -f .venv/unfinished
