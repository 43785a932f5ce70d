"""Every kind of dataset: in, groups, decisions, and out as what it was; the originals as they were."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imgclean.dataset.sources import read_source
from imgclean.formatter import groups_of
from imgclean.review.cleaner import ImageCleaner
from imgclean.review.session import Review

NAMES = [f"{label}/{name}.jpg" for label in ("cat", "dog") for name in "abcd"]
SEEDS = [1, 2, 1, 3, 1, 4, 5, 4]  # of the pictures in `shop`: those of one seed are copies
LABELS = ("cat",) * 4 + ("dog",) * 4


@pytest.fixture
def table(shop):
    return pd.DataFrame({"path": [str(shop / n) for n in NAMES], "class": LABELS, "width": range(8)})


def in_files(path: Path) -> dict[str, bytes]:
    return {
        str(p): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file() and ".imgclean" not in p.parts
    }


def vectors(items) -> np.ndarray:
    "What a model would say: the same of copies, and of nothing else."
    return np.eye(6, dtype=np.float32)[[SEEDS[row] for row in items.rows]]


def decided(source, tmp_path, **how):
    "All but the first of each group left out, and the label of the last image changed."
    was, items = in_files(tmp_path), read_source(source, **how)
    groups = groups_of(vectors(items), items)
    assert sorted(map(sorted, groups)) == [[0, 2, 4], [5, 7]]
    (tmp_path / "out").mkdir()
    review = Review(items, groups, tmp_path / "out")
    for group in groups:
        review.mark(group[1:], "delete")
    review.relabel(6, "cat")
    clean = review.cleaned()
    assert was.items() <= in_files(tmp_path).items()
    assert (
        len(clean) == 5
        and len(clean.dropped()) == 3
        and set(clean.rows) | set(clean.dropped()) == set(range(8))
    )
    assert {1, 3, 6} < set(clean.rows)
    return clean


def test_a_folder(shop, tmp_path):
    clean = decided(shop, tmp_path)
    out = clean.as_source()
    assert (
        list(out.name) == [NAMES[r] for r in clean.rows]
        and out.label[out.name == "dog/c.jpg"].item() == "cat"
    )
    folder = clean.to_folder(tmp_path / "clean")
    assert (folder / "cat/c.jpg").exists() or (folder / "cat/c-2.jpg").exists()
    assert read_source(folder).labels.count("cat") == clean.labels.count("cat")


@pytest.mark.parametrize("kind", ["DataFrame", "csv", "parquet"])
def test_a_table(table, tmp_path, kind):
    source = table
    if kind != "DataFrame":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed; pip install pyarrow")
        source = tmp_path / f"table.{kind}"
        table.to_csv(source, index=False) if kind == "csv" else table.to_parquet(source)
    clean = decided(source, tmp_path)
    out = clean.as_source()
    assert type(out) is pd.DataFrame and list(out.columns) == ["path", "class", "width"]
    assert list(out.width) == list(clean.rows) and tuple(out["class"]) == clean.labels
    assert out["class"][out.width == 6].item() == "cat" and tuple(table["class"]) == LABELS


def test_lists_of_paths_and_of_pictures(shop, tmp_path):
    paths = [os.fspath(shop / n) for n in NAMES]
    clean = decided(paths, tmp_path, labels=r"(\w+)/\w+\.jpg$")
    assert clean.as_source() == [paths[r] for r in clean.rows] and clean.labels[clean.rows.index(6)] == "cat"
    (tmp_path / "out").rename(tmp_path / "out-1")
    pictures = [Image.open(path) for path in paths]
    clean = decided(pictures, tmp_path, labels=LABELS, folder=tmp_path / "kept")
    assert all(a is pictures[r] for a, r in zip(clean.as_source(), clean.rows, strict=True))


def test_a_dict_of_splits(shop, tmp_path):
    paths = [shop / n for n in NAMES]
    clean = decided({"train": paths[:5], "test": pd.DataFrame({"name": paths[5:]})}, tmp_path)
    out = clean.as_source()
    assert type(out) is dict and out["train"] == [paths[r] for r in clean.rows if r < 5]
    assert list(out["test"].name) == [paths[r] for r in clean.rows if r >= 5]
    assert out["test"].label[1] == "cat" and set(clean.splits) == {"train", "test"}


def test_torchvision(shop, tmp_path):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    clean = decided(torchvision.datasets.ImageFolder(shop), tmp_path)
    out = clean.as_source()
    assert [out[k][1] for k in range(5)] == [["cat", "dog"].index(label) for label in clean.labels]


@pytest.mark.parametrize("several", [False, True])
def test_hugging_face(shop, tmp_path, several):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed; pip install imgclean[hf]")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    )
    images = [{"bytes": (shop / n).read_bytes(), "path": None} for n in NAMES]
    ds = datasets.Dataset.from_dict({"image": images, "label": [0] * 4 + [1] * 4}, features=features)
    source = (
        datasets.DatasetDict({"train": ds.select(range(4)), "test": ds.select(range(4, 8))})
        if several
        else ds
    )
    clean = decided(source, tmp_path)
    out = clean.as_source()
    assert type(out) is type(source)
    labels = [*out["train"]["label"], *out["test"]["label"]] if several else list(out["label"])
    assert labels == [["cat", "dog"].index(label) for label in clean.labels]


def test_a_learner_and_its_dataloaders(shop, tmp_path):
    from fastai.vision.all import ImageDataLoaders, Learner, Resize
    from torch import nn

    df = pd.DataFrame({"name": NAMES, "label": LABELS, "is_valid": [k in (1, 6) for k in range(8)]})
    dls = ImageDataLoaders.from_df(df, shop, valid_col="is_valid", item_tfms=Resize(32), bs=2, num_workers=0)
    learn = Learner(dls, nn.Linear(1, 1), loss_func=nn.MSELoss())
    items = read_source(learn)
    order = [NAMES.index(items.relpath(k)) for k in range(8)]
    clean = items.subset([k for k in range(8) if order[k] not in (2, 4, 7)])
    out = clean.as_source()
    assert type(out) is type(dls) and (len(out.train_ds), len(out.valid_ds)) == (3, 2)
    assert read_source(out).paths == clean.paths


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz"])
def test_an_archive(shop, tmp_path, ending):
    import shutil

    kind = {"tar.gz": "gztar"}.get(ending, ending)
    path = shutil.make_archive(str(tmp_path / "all"), kind, shop)
    items = read_source(path)
    order = [NAMES.index(items.relpath(k)) for k in range(8)]  # as the archive has them
    clean = items.subset([k for k in range(8) if order[k] not in (2, 4, 7)])
    back = read_source(clean.to_archive(tmp_path / f"clean.{ending}"))
    assert [back.relpath(k) for k in range(5)] == [clean.relpath(k) for k in range(5)]
    assert [p.read_bytes() for p in back.paths] == [p.read_bytes() for p in clean.paths]


def test_the_grid_takes_what_read_source_takes(table, tmp_path):
    cleaner = ImageCleaner(table, [(0, 2)], tmp_path)
    cleaner.review.mark(2, "delete")
    assert list(cleaner.cleaned().as_source().width) == [0, 1, 3, 4, 5, 6, 7]
    assert cleaner.cleaned().dropped() == [2]


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (3, TypeError, "got a int; give the folder of the images, a csv"),
        (b"photos", TypeError, "got a bytes"),
        (Image.new("L", (1, 1)), TypeError, "got a Image"),
        ([], ValueError, "the list of paths is empty"),
        ({}, ValueError, "the dict is empty"),
        (["a.jpg", 3], TypeError, "the list holds a int; give paths alone, or PIL images alone"),
        ("nowhere", NotADirectoryError, "does not exist; give a folder"),
    ],
)  # fmt: skip
def test_what_holds_no_images_is_said(source, error, message):
    with pytest.raises(error, match=message):
        read_source(source)


def test_labels_and_patterns_hold_for_every_kind(shop, table):
    items = read_source(table, root=shop, labels=list("12345678"), exclude="dog")
    assert items.labels == ("1", "2", "3", "4") and items.dropped() == [4, 5, 6, 7]
    assert items.origin.relabeled(items) == {}
    with pytest.raises(ValueError, match="there are 1 labels for 8 images"):
        read_source(table, labels=["x"])
    assert read_source(["cat/a.jpg"], root=shop).paths == (shop / "cat/a.jpg",)
