import numpy as np
import pytest
from PIL import Image, ImageOps
from scenes import crop, recolour, scene

from imgclean.find.align import (
    FINE,
    MIRRORED,
    SIDE,
    Alignment,
    by_keypoints,
    directly,
    keypoints,
    nudged,
    overlap,
    rescaled,
    scale_of,
    view_of,
    warp,
)
from imgclean.find.edits import _lines, full_size, geometry


def test_a_mirrored_descriptor_is_that_of_the_mirror_image():
    grey = view_of(scene(1), (320, 240)).grey
    here, there = keypoints(grey, 1.0), keypoints(np.ascontiguousarray(grey[:, ::-1]), 1.0)
    x = grey.shape[1] - 1 - here.xy[:, 0]
    apart = np.abs(x[:, None] - there.xy[:, 0]) + np.abs(here.xy[:, 1:] - there.xy[:, 1])
    assert (apart.min(axis=1) < 1).mean() > 0.5  # SIFT itself is not quite symmetric
    off = [
        np.abs(d[:, None] - there.descriptors).sum(axis=2).min(axis=1)
        for d in (here.descriptors[:, MIRRORED], here.descriptors)
    ]
    assert np.median(off[0]) < 0.2 * np.median(off[1])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("quarters", range(4))
def test_the_eight_ways_to_lay_one_on_the_other(flip, quarters):
    im = scene(1)
    other = Image.fromarray(np.rot90(np.asarray(ImageOps.mirror(im) if flip else im), quarters))
    a, b = view_of(im, im.size), view_of(other, other.size)
    thumb, found = directly(a, b)
    seen = overlap(a, b, found)
    assert (
        thumb > 0.99 and found.mirrored == flip and seen.ncc > 0.98 and min(seen.cover_i, seen.cover_j) > 0.98
    )


def test_overlap_of_a_crop():
    im = scene(1)
    part = im.crop((80, 60, 240, 180))
    a, b = view_of(im, im.size), view_of(part, part.size)
    seen = overlap(a, b, Alignment(np.array([[0.5, 0, 63.75], [0, 0.5, 47.75]]), False))
    assert seen.ncc > 0.95 and seen.agree > 0.95
    assert seen.cover_i == pytest.approx(0.25, abs=0.01) and seen.cover_j == pytest.approx(1, abs=0.01)


def test_an_overlap_at_a_quarter_of_the_size_is_that_at_half():
    im = scene(1)
    for other in (crop(im), im.rotate(10), recolour(im), scene(2)):
        a, b = view_of(im, im.size), view_of(other, other.size)
        for found in by_keypoints(keypoints(a.grey), keypoints(b.grey), b.grey.shape[1]):
            quick, slow = overlap(a, b, found), overlap(a, b, found, FINE)
            assert quick[3:] == slow[3:] and np.allclose(quick[:3], slow[:3], atol=0.12)


def test_the_mirror_may_be_asked_first():
    im = scene(1)
    im.paste(ImageOps.mirror(im.crop((0, 0, 160, 240))), (160, 0))  # it is its own mirror
    points = keypoints(view_of(im, im.size).grey)
    one, other = (list(by_keypoints(points, points, SIDE, first)) for first in (False, True))
    assert [found.mirrored for found in one] == [False, True]
    assert [found.mirrored for found in other] == [True, False]
    for k in (0, 1):
        assert one[k].inliers > 15 and one[k].matches == other[1 - k].matches


@pytest.mark.parametrize("flip", [False, True])
def test_where_another_picture_lies_is_where_its_pixels_come_from(flip):
    matrix = np.array([[0.8, 0.3, 9.0], [-0.3, 0.8, 21.0]])
    h, w = 50, 70
    _, mask = warp(np.zeros((h, w), np.float32), matrix, flip, (64, 80))
    y, x = np.mgrid[:64, :80]
    u, v = np.linalg.solve(matrix[:, :2], np.stack([x, y]).reshape(2, -1) - matrix[:, 2:])
    inside = np.minimum(np.minimum(u, w - 1 - u), np.minimum(v, h - 1 - v)).reshape(64, 80)
    assert (mask[inside > 3]).all() and not mask[inside < 0].any() and mask.any()


def test_scale_is_that_of_areas():
    m = np.array([[0.9, 0.2, 5.0], [-0.4, 1.3, -3.0]])
    assert scale_of(m) == pytest.approx(np.sqrt(abs(np.linalg.det(m[:, :2]))))


def test_lines_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    u = rng.uniform(0, 255, (3, 400)).astype(np.float32)
    v = np.array([[0.5], [1.2], [1.0]], np.float32) * u + rng.normal(0, 9, u.shape).astype(np.float32) + 7
    use = (rng.random(u.shape) < 0.6).astype(np.float32)
    slope, shift = _lines(u, v, use)
    for k in range(3):
        some = use[k] > 0
        assert np.allclose((slope[k], shift[k]), np.polyfit(u[k][some], v[k][some], 1), atol=1e-2)
    plain = np.full((1, 50), 80, np.float32)
    slope, shift = _lines(plain, plain + 5, np.ones_like(plain))
    assert (slope, shift) == (1, 5)  # of one colour there is no contrast to fit


def test_rescaled_is_the_same_map_on_finer_pixels():
    m = np.array([[0.9, 0.2, 5.0], [-0.2, 0.9, -3.0]])
    fine = rescaled(m, 2.0, 3.0)
    centre = np.array([10.0, 20.0])
    at = fine @ [*(3 * centre + 1), 1]  # the centre of a pixel that became three
    assert np.allclose(at, 2 * (m @ [*centre, 1]) + 0.5)


def test_geometry_says_what_was_done_rather_than_what_undoes_it():
    turn = np.deg2rad(30)
    # In pixels, y downwards, this matrix turns clockwise; so the copy was turned the other way.
    back = 0.5 * np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0]])
    made = geometry(back, False)
    assert (
        made.turn == pytest.approx(-30)
        and made.scale == pytest.approx(2)
        and made.stretch == pytest.approx(1)
    )
    assert geometry(back, True).turn == pytest.approx(30)


def test_full_size_undoes_the_views():
    a, b = view_of(scene(1, (640, 480)), (640, 480)), view_of(scene(1, (320, 240)), (320, 240))
    matrix = full_size(a, b, directly(a, b)[1])
    assert np.allclose(matrix, [[2, 0, 0.5], [0, 2, 0.5]], atol=1e-6) and max(a.grey.shape) == SIDE


@pytest.mark.parametrize("flip", [False, True])
def test_nudged_finds_what_is_a_little_beside(flip):
    im = scene(3, (256, 192))
    turned = (ImageOps.mirror(im) if flip else im).transform(
        im.size, Image.Transform.AFFINE, (1, 0.01, -2.3, -0.01, 1, 1.6), Image.Resampling.BICUBIC
    )
    a, b = view_of(im, im.size), view_of(turned, turned.size)
    start = Alignment(np.array([[1.0, 0, 0], [0, 1, 0]]), flip)
    moved = nudged(a, b, start)
    assert moved.mirrored == flip and overlap(a, b, moved).ncc > 0.99 > overlap(a, b, start).ncc
    blank = view_of(Image.new("RGB", (256, 192), "grey"), (256, 192))
    assert nudged(blank, b, start) is start
