from dataclasses import replace
from types import SimpleNamespace

import pytest
from packing import everything, jpeg

from imgclean.dataset.sources import read_source

CLASSES = ["cat", "dog"]
NEEDED = "datasets is not installed; pip install imgclean[hf]"


def in_bytes(datasets, n: int = 4):
    features = datasets.Features(
        {
            "note": datasets.Value("string"),
            "label": datasets.ClassLabel(names=CLASSES),
            "picture": datasets.Image(),
        }
    )
    images = [{"bytes": jpeg(k), "path": None} for k in range(n)]
    rows = {"note": [f"n{k}" for k in range(n)], "label": [k % 2 for k in range(n)], "picture": images}
    return datasets.Dataset.from_dict(rows, features=features)


def test_stored_bytes_are_written_as_they_are_and_rows_come_back(tmp_path):
    datasets = pytest.importorskip("datasets", reason=NEEDED)
    ds = in_bytes(datasets)
    items = read_source(ds, folder=tmp_path / "out")
    assert [p.read_bytes() for p in items.paths] == [jpeg(k) for k in range(4)]
    assert items.labels == ("cat", "dog", "cat", "dog") and items.paths[0].suffix == ".jpg"
    out = replace(items, labels=("dog", "dog", "bird", "dog")).subset([0, 2]).as_source()
    assert out.column_names == ds.column_names and list(out["note"]) == ["n0", "n2"]
    assert out.features["label"].names == ["cat", "dog", "bird"] and list(out["label"]) == [1, 2]
    assert out[1]["picture"].size == (96, 80) and list(ds["label"]) == [0, 1, 0, 1]
    assert items.subset([3]).as_source().features == ds.features


def test_files_are_used_where_they_lie(shop):
    datasets = pytest.importorskip("datasets", reason=NEEDED)
    was, paths = everything(shop), [str(shop / "cat/a.jpg"), str(shop / "dog/a.jpg")]
    ds = datasets.Dataset.from_dict({"image": paths, "category": ["x", ""]})
    ds = ds.cast_column("image", datasets.Image())
    items = read_source(ds.with_format("numpy"))
    assert [str(p) for p in items.paths] == paths and items.labels == ("x", None) and items.root == shop
    out = replace(items, labels=("y", None)).as_source()
    assert list(out["category"]) == ["y", ""] and everything(shop) == was
    bare = read_source(ds.remove_columns("category"))
    assert list(replace(bare, labels=("y", None)).as_source()["label"]) == ["y", None]


def test_a_dict_of_datasets_comes_back_as_one_with_its_splits():
    datasets = pytest.importorskip("datasets", reason=NEEDED)
    ds = in_bytes(datasets)
    source = datasets.DatasetDict({"train": ds, "validation": ds.select([2, 0])})
    items = read_source(source)
    assert items.splits == ("train",) * 4 + ("valid",) * 2 and items.labels[4:] == ("cat", "cat")
    assert items.relpath(5) == "validation/1.jpg" and len(set(items.paths)) == 6
    out = replace(items, labels=(*items.labels[:5], "dog")).subset([1, 3, 5]).as_source()
    assert type(out) is datasets.DatasetDict and list(out["train"]["note"]) == ["n1", "n3"]
    assert list(out["validation"]["note"]) == ["n0"] and list(out["validation"]["label"]) == [1]
    assert items.subset([1, 3, 5]).dropped() == [0, 2, 4]


def test_what_is_no_dataset_of_images_is_said():
    datasets = pytest.importorskip("datasets", reason=NEEDED)
    ds = in_bytes(datasets)
    with pytest.raises(ValueError, match="no column of type Image is in the Dataset, which has note"):
        read_source(ds.select_columns(["note"]))
    with pytest.raises(ValueError, match="there is no column 'x'; the Dataset has note, label, picture"):
        read_source(ds, columns={"name": "x"})
    with pytest.raises(ValueError, match="has no rows"):
        read_source(ds.select([]))
    with pytest.raises(TypeError, match="got a IterableDataset"):
        read_source(ds.to_iterable_dataset())
    assert read_source(ds, columns={"label": "note"}).labels[1] == "n1"


class Image:
    "Stands in for the feature of that name"

    def __init__(self, decode=True):
        self.decode = decode


class StandIn:
    "What imgclean uses of a Dataset, in a few lines, so that this much is tested where datasets is not installed"

    def __init__(self, rows):
        self.rows = rows
        self.features = {"image": Image(), "label": type("ClassLabel", (), {"names": CLASSES})()}
        self.column_names = list(self.features)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, name):
        return [row[name] for row in self.rows]

    def __iter__(self):
        return iter(self.rows)

    def select(self, ks):
        return StandIn([self.rows[k] for k in ks])

    def with_format(self, _):
        return self

    def select_columns(self, names):
        assert names == ["image"]
        return SimpleNamespace(cast_column=lambda _, feature: self if not feature.decode else None)

    def cast_column(self, *_):
        raise AssertionError("of the selected column alone")


def test_a_dataset_is_known_by_what_it_has(tmp_path):
    (tmp_path / "1.jpg").write_bytes(jpeg(1))
    files = [{"image": {"bytes": None, "path": str(tmp_path / "1.jpg")}, "label": 1}]
    items = read_source(StandIn(files))
    assert items.paths == (tmp_path / "1.jpg",) and items.labels == ("dog",)
    rows = [*files, {"image": {"bytes": jpeg(2), "path": "x"}, "label": -1}, {"image": None, "label": None}]
    items = read_source(StandIn(rows))
    assert [p.read_bytes() for p in items.paths] == [jpeg(1), jpeg(2), b""] and items.labels == (
        "dog",
        None,
        None,
    )
    assert items.subset([1]).as_source().rows == rows[1:2]
    with pytest.raises(ValueError, match="row 0 of the Dataset has neither bytes nor a file"):
        read_source(StandIn([{"image": {"bytes": None, "path": "zip://x"}, "label": 0}]))


def test_new_labels_are_values_of_their_column_or_are_refused():
    datasets = pytest.importorskip("datasets", reason=NEEDED)
    ds = in_bytes(datasets, 2).remove_columns("label")

    def relabelled(values, kind, label):
        items = read_source(ds.add_column("label", values, feature=kind))
        return replace(items, labels=(label, *items.labels[1:])).as_source()["label"]

    assert list(relabelled([1, 2], datasets.Value("int64"), "7")) == [7, 2]
    assert list(relabelled([1.5, 2], datasets.Value("float32"), "2.5")) == [2.5, 2]
    assert list(relabelled(["a", "b"], datasets.Value("large_string"), "7")) == ["7", "b"]
    assert list(relabelled([True, False], datasets.Value("bool"), "False")) == [False, False]
    for values, kind, label in [
        ([1, 2], "int64", "cat"),
        ([1, 2], "uint8", "007"),
        ([True, False], "bool", "x"),
    ]:
        with pytest.raises(
            ValueError, match=f"'{label}' cannot be in the column 'label', which holds {kind}"
        ):
            relabelled(values, datasets.Value(kind), label)
    with pytest.raises(ValueError, match="the column 'label' holds no labels"):
        relabelled([["a"], ["b"]], datasets.Sequence(datasets.Value("string")), "a")
