from PIL import Image

from imgclean.find.align import view_of
from imgclean.find.tiny import tiny_ncc


def test_tiny_pictures_without_contrast_correlate_with_nothing():
    plain, other = (view_of(Image.new("RGB", (32, 32), c), (32, 32)) for c in ("white", "grey"))
    assert tiny_ncc(plain, other) == (0.0, False)
