import numpy as np
import pytest
from PIL import Image

from imgclean.dataset.items import Items
from imgclean.dataset.pixels import pixel_vectors
from imgclean.find.clusters import cluster_pairs


def test_vectors_are_the_pixels_at_length_one(tmp_path):
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], dtype=np.uint8).reshape(2, 2, 3)
    Image.fromarray(colours).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "a.png")
    Image.new("RGB", (5, 9)).save(tmp_path / "black.png")
    vectors, items = pixel_vectors(Items.from_folder(tmp_path), 2)
    expected = colours.ravel() / np.linalg.norm(colours.astype(float))
    np.testing.assert_allclose(vectors, [expected, np.zeros(12)], atol=1e-6)
    assert vectors.dtype == np.float32 and len(items) == 2


def test_copies_are_found_by_pixels_and_what_cannot_be_read_is_left_out(shop):
    (shop / "cat/aa.jpg").write_text("no image")
    vectors, items = pixel_vectors(Items.from_folder(shop))
    assert vectors.shape == (8, 3 * 32 * 32) and [u.path.name for u in items.unreadable] == ["aa.jpg"]
    pairs = cluster_pairs(vectors, min_similarity=0.9999, n_clusters=2)
    names = {(items.relpath(j), items.relpath(i)) for i, j, _ in pairs}
    assert names == {
        ("cat/a.jpg", "cat/c.jpg"), ("cat/a.jpg", "dog/a.jpg"), ("cat/c.jpg", "dog/a.jpg"), ("dog/b.jpg", "dog/d.jpg"),
    }  # fmt: skip


def test_no_pixels_are_refused(shop):
    with pytest.raises(ValueError, match="size is 0"):
        pixel_vectors(Items.from_folder(shop), 0)
