import numpy as np
import pytest
from PIL import Image

from imgclean.dataset.items import Items
from imgclean.label_errors import find_label_errors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Eight red and eight blue pictures, one red one filed under blue; one without a label, one alone in its class."
    root, rng = tmp_path_factory.mktemp("label_errors"), np.random.default_rng(0)
    names = [f"{'blue' if k >= 8 or k == 3 else 'red'}/{k:02}.png" for k in range(16)]
    for k, name in enumerate([*names, "none.png", "green/1.png"]):
        colour = (200, 30, 30) if k < 8 else (30, 30, 200)
        pixels = np.clip(np.array(colour) + rng.normal(0, 20, (48, 48, 3)), 0, 255).astype(np.uint8)
        (root / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    return root


def test_the_wrong_label_comes_first_and_the_dataset_is_whole(folder, caplog):
    ds, found = find_label_errors(folder, None, progress=False)
    assert len(ds) == 18 and len(found) == 16 and "2 images have no label or one of their own" in caplog.text
    assert ds.relpath(found[0]) == "blue/03.png" and found[0].predicted == "red"
    assert found[0].dataset == ds.key()
    judged = {ds.relpath(k) for k in found}
    assert not judged & {"none.png", "green/1.png"}


def test_what_cannot_be_judged_is_refused(folder, tmp_path):
    items = Items.from_folder(folder)
    red = items.subset([k for k, label in enumerate(items.labels) if label == "red"])
    with pytest.raises(ValueError, match="fewer than two classes"):
        find_label_errors(red, progress=False)
    with pytest.raises(ValueError, match="by is 'guess'"):
        find_label_errors(items, by="guess")
