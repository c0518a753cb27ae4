"""Animations of walks."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from dpvae_cli.foundation.errors import UsageError
from dpvae_cli.plotting import animation
from tests.plotting.conftest import make_traversal


def read(path):
    """Return the frames as RGB, their milliseconds, and how often to repeat."""
    frames, durations = [], []
    with Image.open(path) as image:
        for index in range(image.n_frames):
            image.seek(index)
            durations.append(image.info["duration"])
            frames.append(np.asarray(image.convert("RGB")))
        return frames, durations, image.info["loop"]


@pytest.mark.parametrize("kind", ["digits", "faces", "moons"])
def test_a_gif_goes_there_and_back_for_ever(kind, tmp_path):
    record = make_traversal(kind, "z0", "z", steps=6)
    frames, durations, loop = read(animation.save_animation(tmp_path / "x.gif", record, "a run"))
    assert loop == 0
    assert durations == [700, 200, 200, 200, 200, 700, 200, 200, 200, 200]
    for index in range(1, 5):
        np.testing.assert_array_equal(frames[index], frames[-index])
    assert all((one != other).any() for one, other in pairwise(frames))


def test_frames_show_every_step_of_every_walk():
    record = make_traversal("digits", steps=4)
    still = {**record, "walk_decoded": record["walk_decoded"][:, :1].repeat(4, axis=1)}
    moving, fixed = animation.frames(record, "a run"), animation.frames(still, "a run")
    assert len(moving) == 4
    changed = [(one != other).any(axis=2) for one, other in zip(moving[1:], fixed[1:], strict=True)]
    columns = [np.flatnonzero(part.any(axis=0)) for part in changed]
    width = moving[0].shape[1]
    third = (width - 2.65 * animation.DPI) / 3
    for part in columns:
        assert len(set((part // third).astype(int))) == 3, "three tiles, the map apart"


def test_every_frame_has_the_name_of_the_run():
    record = make_traversal("digits", steps=2)
    named, other = animation.frames(record, "a run"), animation.frames(record, "another run")
    for one, two in zip(named, other, strict=True):
        rows = np.flatnonzero((one != two).any(axis=(1, 2)))
        assert len(rows)
        assert rows.max() < 0.2 * animation.DPI, "above everything else"


def test_long_walks_are_not_longer_to_watch():
    times = animation.durations(31)
    assert (len(times), times[0], times[1], times[30]) == (60, 700, 80, 700)
    assert sum(times) < 7_000
    assert max(animation.durations(2)) == 700
    assert min(animation.durations(500)) == 40


def test_white_and_the_colours_of_lines_survive(tmp_path):
    record = make_traversal("faces", "z0", "z", steps=5)
    frames, _, _ = read(animation.save_animation(tmp_path / "x.gif", record, "a run"))
    assert (frames[2][0, 0] == 255).all()
    colours = {tuple(colour) for colour in frames[2].reshape(-1, 3)}
    assert (213, 94, 0) in colours


def test_other_examples_are_refused():
    animation.check_animatable((3, 8, 8))
    animation.check_animatable((2,))
    with pytest.raises(UsageError, match="shape 5 are neither"):
        animation.check_animatable((5,))
