"""How many cores this process may use."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """Return the processor cores that this process may use: its affinity, and a container's limit (cgroup v2)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, -(-int(quota) // int(period))))
