"""How the fuzz targets run: a few fixed examples each, or for FACEXKIT_FUZZ_SECONDS each with ever new ones."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, settings

from facexkit.errors import FacexkitError

SECONDS = float(os.environ.get("FACEXKIT_FUZZ_SECONDS", 0))
HANGS = 60

settings.register_profile(
    "fuzz", max_examples=1000 if SECONDS else 60, derandomize=not SECONDS, database=None, deadline=None,
    suppress_health_check=[*HealthCheck],
)  # fmt: skip


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Call a target once, and again until its seconds are over."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    end = time.monotonic() + SECONDS
    while True:
        pyfuncitem.obj(**arguments)
        if time.monotonic() >= end:
            return True


def _hangs(*_: object) -> None:
    raise TimeoutError(f"no answer within {HANGS} s")


@contextmanager
def or_told():
    """Let pass what is refused by a `FacexkitError`, and nothing else; what hangs is interrupted."""
    before = signal.signal(signal.SIGALRM, _hangs)
    signal.alarm(HANGS)
    try:
        yield
    except FacexkitError as error:
        assert str(error).strip()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="session", name="or_told")
def _or_told():
    return or_told
