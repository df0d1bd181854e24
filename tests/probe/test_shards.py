"""Shards that are written down: a pass that was ended goes on after them, with the same result to the last bit."""

import os
import signal

import numpy as np
import pytest
import torch

from facexkit.errors import FacexkitError
from facexkit.measure.per_image import Outputs
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run


class Ended(Exception):
    """Somebody ended the pass."""


class Bar:
    """A progress bar that ends the pass after so many faces, and counts."""

    def __init__(self, after):
        self.after, self.seen = after, 0

    def __call__(self, **about):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def update(self, n):
        self.seen += n
        if self.seen > self.after:
            raise Ended


def passed(model, faces, folder, bar=None, **how):
    outputs = Outputs()
    options = PassOptions(batch_size=4, folder=folder, progress=bar or False, max_skipped=0.5, **how)
    skipped = run(model, faces, [outputs], options, shard=8)
    return skipped, *outputs.result()


def test_a_pass_that_was_ended_goes_on_after_its_finished_shards(chain, noise, ran, tmp_path):
    faces = noise(40, broken=[9, 30])
    whole = passed(chain, faces, None)
    with pytest.raises(Ended):
        passed(chain, faces, tmp_path, Bar(after=20))
    assert len(list(tmp_path.glob("*/*.npz"))) == 2
    names, bar = ran(chain), Bar(after=40)
    again = passed(chain, faces, tmp_path, bar)
    assert names.count("head") == 6 and bar.seen == 40
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one, other)
    names.clear()
    assert passed(chain, faces, tmp_path)[0] == ["9: truncated", "30: truncated"] and names == []


def test_another_call_starts_afresh(chain, noise, ran, tmp_path):
    faces = noise(8)
    passed(chain, faces, tmp_path)
    with torch.no_grad():
        chain.network.head.bias[0] += 1
    names = ran(chain)
    passed(chain, faces, tmp_path)
    passed(chain, faces[:7], tmp_path)
    passed(chain, faces, tmp_path, autocast="bfloat16")
    assert names.count("head") == 6


def test_a_damaged_shard_is_told_with_its_file(chain, noise, tmp_path):
    passed(chain, noise(8), tmp_path)
    (file,) = tmp_path.glob("*/*")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(FacexkitError, match=f"{file.name} cannot be read: .*; remove it and run again"):
        passed(chain, noise(8), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"batch_size": 0}, "a pass: batch_size cannot be 0: it must be greater than or equal to 1"),
        ({"workers": -1}, "workers cannot be -1"), ({"max_skipped": "a"}, "max_skipped cannot be 'a'"),
        ({"autocast": "int8"}, "autocast cannot be 'int8'; it is float16, bfloat16 or None"),
        ({"folder": 3}, "folder cannot be 3"),
    ],
)  # fmt: skip
def test_options_are_checked_at_the_door(wrong, said):
    with pytest.raises(FacexkitError, match=said):
        PassOptions(**wrong)


class Deadly:
    """Pictures of which one ends the process that reads it."""

    def __init__(self, images):
        self.images = images

    def read(self, path):
        if path == "50":
            os.kill(os.getpid(), signal.SIGKILL)
        return self.images.read(path)

    def digest(self, path):
        return self.images.digest(path)


def test_a_decoding_process_that_is_killed_is_told(chain, noise):
    faces = noise(60)
    faces.images = Deadly(faces.images)
    with pytest.raises(FacexkitError, match="decoding 'noise' stopped: .*; if memory is short, take fewer workers="):
        passed(chain, faces, None, workers=1)
