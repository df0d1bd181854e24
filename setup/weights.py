"""Teach the demo models anew and put their weights into the package (five minutes): `python setup/weights.py`."""

import os
import shutil
import tempfile
from pathlib import Path

from facexkit.drawn import demo

if __name__ == "__main__":
    shutil.rmtree(demo.SHIPPED, ignore_errors=True)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FACEXKIT_CACHE"] = cache
        for name in demo.DEMOS:
            demo.demo_network(name, seed=0)
        shutil.copytree(Path(cache, "models"), demo.SHIPPED)
