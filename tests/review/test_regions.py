import io
import warnings

import numpy as np
import pytest
from PIL import Image

from imgclean.dataset.images import UnreadableImage
from imgclean.find.explain import Region
from imgclean.review.regions import SIDE, shown_regions

WHOLE = (0, 0, 1, 1)


def shown(*regions, sizes=((400, 200), (100, 300))):
    said, pngs = shown_regions(lambda a, b: regions, ["a", "b"], sizes)
    return said, [Image.open(io.BytesIO(png)) for png in pngs]


def test_maps_are_as_high_to_their_width_as_their_images():
    maps = np.float32([[0, 1], [0.25, 0.75]]), np.float32([[0.5]])
    said, (first, second) = shown(*(Region(m, WHOLE) for m in maps))
    assert said == {"low": 0.0, "high": 1.0}
    assert first.size == (SIDE, SIDE // 2) and second.size == (round(SIDE / 3), SIDE)
    corners = [first.getpixel(at) for at in ((0, 0), (SIDE - 1, 0))]
    assert corners == [(0, 32, 255, 255), (255, 238, 0, 255)]  # blue and yellow, nowhere clear
    ((_, colour),) = second.getcolors()
    assert colour == pytest.approx((192, 64, 144, 255), abs=2)


def test_a_map_lies_where_the_model_looked_and_is_cut_at_the_edges():
    crop, pad = (0.25, 0.002, 0.75, 0.998), (-0.5, 0, 1.5, 1)
    left_is_one = np.float32([[1, 0]])
    _, (cropped, padded) = shown(
        Region(np.float32([[1]]), crop), Region(left_is_one, pad), sizes=[(400, 400)] * 2
    )
    clear = np.asarray(cropped)[..., 3] == 0
    assert clear[:, : SIDE // 4].all() and clear[:, -SIDE // 4 :].all()
    assert not clear[:, SIDE // 4 : -SIDE // 4].any()
    # Twice as wide as the image, which shows its middle: where one becomes nought.
    middle = np.asarray(padded)[0, SIDE // 2].astype(int)
    assert np.abs(middle - [192, 64, 144, 255]).max() <= 8 and np.asarray(padded)[..., 3].all()


def test_cosines_beyond_their_range_are_its_ends():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a number that wraps round would warn
        said, (low, high) = shown(
            *(Region(np.float32([[v]]), WHOLE) for v in (-0.3, 1.00001)), sizes=[(9, 9)] * 2
        )
    assert low.getpixel((0, 0))[:3] == (0, 32, 255) and high.getpixel((0, 0))[:3] == (255, 238, 0)
    assert said["low"] == pytest.approx(-0.3)


@pytest.mark.parametrize(
    ("raised", "sentence"),
    [
        (ValueError("the layer returns (1, 10); name one that returns maps"), "the layer returns (1, 10); name one that returns maps"),
        (UnreadableImage("the file is empty"), "the file is empty"),
        (RuntimeError("CUDA out of memory\nmore\nlines"), "RuntimeError: CUDA out of memory"),
        (KeyError(), "KeyError: "),
    ],
)  # fmt: skip
def test_whatever_a_model_raises_is_one_sentence(raised, sentence):
    def explain(a, b):
        raise raised

    assert shown_regions(explain, ["a", "b"], [(9, 9)] * 2) == ({"error": sentence}, [])


def test_a_map_without_numbers_is_none():
    nan = Region(np.float32([[np.nan]]), WHOLE)
    said, pngs = shown(nan, nan)
    assert said == {"error": "the model returns numbers that are not finite; look with fp32"} and pngs == []
