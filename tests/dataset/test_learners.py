from dataclasses import replace

import pandas as pd
import pytest
from fastai.vision.all import (
    Categorize,
    ColReader,
    DataBlock,
    DataLoaders,
    Datasets,
    ImageBlock,
    ImageDataLoaders,
    MultiCategoryBlock,
    PILImage,
    RandomSplitter,
    Resize,
    get_image_files,
    parent_label,
)
from packing import everything
from pictures import write_pictures

from imgclean.dataset.sources import read_source


def loaders(shop, bs=4, **kwargs):  # of 8 images
    return ImageDataLoaders.from_path_func(
        shop,
        get_image_files(shop),
        parent_label,
        bs=bs,
        item_tfms=Resize(32),
        num_workers=0,
        seed=1,
        **kwargs,
    )


def targets(ds):
    return [ds.vocab[int(y)] for _, y in ds]


def test_dataloaders_come_back_with_the_rows_that_stay_and_new_labels(shop):
    was, dls = everything(shop), loaders(shop, bs=2, valid_pct=0.4)
    items = read_source(dls)
    n = len(dls.train_ds)
    labels = list(items.labels)
    labels[1] = "dog" if labels[1] == "cat" else "cat"
    ks = [k for k in range(8) if k not in (0, n)]
    clean = replace(items, labels=tuple(labels)).subset(ks)
    out = clean.as_source()
    assert isinstance(out, DataLoaders) and (len(out.train_ds), len(out.valid_ds)) == (n - 1, 8 - n - 1)
    again = read_source(out)
    assert (again.paths, again.labels, again.splits) == (clean.paths, clean.labels, clean.splits)
    assert targets(out.train_ds) == [labels[k] for k in range(1, n)] and clean.dropped() == [0, n]
    x, y = out.train.one_batch()
    assert x.shape == (2, 3, 32, 32) and len(y) == 2 and len(list(out.train)) == (n - 1) // 2
    assert (out.path, out.device, out.vocab) == (dls.path, dls.device, dls.vocab)
    assert len(dls.train_ds) == n and everything(shop) == was


def test_a_small_rest_is_one_batch(shop):
    dls = loaders(shop, bs=6)
    items = read_source(dls)
    out = items.subset([0, 1, 7]).as_source()
    assert [len(xb) for xb, _ in out.train] == [2] and len(out.valid_ds) == 1


def test_dataloaders_that_imgclean_made_come_back_too(shop):
    from imgclean.features.backbones import default_learner

    items = read_source(shop)
    ours = read_source(default_learner(items))
    assert ours == items and ours.dropped() == []
    out = replace(ours, labels=("dog", *items.labels[1:])).subset([0, 2, 3, 6, 7]).as_source()
    back = sorted(zip(read_source(out).paths, read_source(out).labels, strict=True))
    assert back == [(items.paths[k], "dog" if k in (0, 6, 7) else "cat") for k in (0, 2, 3, 6, 7)]


def test_labels_that_the_classes_do_not_have_are_refused(shop):
    items = read_source(loaders(shop))
    with pytest.raises(ValueError, match="'bird' is none of the DataLoaders' classes cat, dog"):
        replace(items, labels=("bird",) * 8).as_source()


def test_several_labels_of_an_image_come_back(shop):
    files = sorted(get_image_files(shop))
    df = pd.DataFrame({"path": files, "tags": ["a;b", "b", "a", "c", "a;c", "b;c", "a", "b"]})
    block = DataBlock(
        (ImageBlock, MultiCategoryBlock), get_x=ColReader("path"), get_y=ColReader("tags", label_delim=";"),
        splitter=RandomSplitter(seed=1), item_tfms=Resize(32),
    )  # fmt: skip
    items = read_source(block.dataloaders(df, bs=2, num_workers=0))
    labels = ("a;b;c", *items.labels[1:])
    out = replace(items, labels=labels).subset([0, 1, 2, 7]).as_source()
    assert read_source(out).labels == ("a;b;c", *labels[1:3], labels[7])
    assert out.train_ds[0][1].tolist() == [1.0, 1.0, 1.0]
    turned = tuple(";".join(reversed(label.split(";"))) for label in items.labels)
    assert items.origin.relabeled(replace(items, labels=turned)) == {}  # the order says nothing


def test_datasets_come_back_with_their_splits(shop):
    files = sorted(get_image_files(shop))
    ds = Datasets(files, [[PILImage.create], [parent_label, Categorize()]], splits=[[0, 1, 4, 5], [2, 6]])
    items = read_source(ds)
    assert (
        items.splits == ("train", "train", "valid", None) * 2 and items.labels == ("cat",) * 4 + ("dog",) * 4
    )
    labels = ("dog", *items.labels[1:])
    out = replace(items, labels=labels).subset([0, 2, 3, 5]).as_source()
    assert isinstance(out, Datasets) and len(out) == 4 and targets(out) == ["dog", "cat", "cat", "dog"]
    assert targets(out.train) == ["dog", "dog"] and targets(out.valid) == ["cat"] and len(ds.train) == 4


def test_a_class_that_training_does_not_have_is_told_by_its_name(tmp_path):
    write_pictures(tmp_path, ["train/a/1.jpg", "train/b/1.jpg", "valid/a/2.jpg", "valid/c/1.jpg"], range(4))
    dls = ImageDataLoaders.from_folder(tmp_path, valid="valid", bs=2, item_tfms=Resize(32), num_workers=0)
    items = read_source(dls)
    labels = {items.relpath(k): items.labels[k] for k in range(len(items))}
    assert labels == {"train/a/1.jpg": "a", "train/b/1.jpg": "b", "valid/a/2.jpg": "a", "valid/c/1.jpg": "c"}
