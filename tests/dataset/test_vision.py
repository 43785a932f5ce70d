import pickle
from dataclasses import replace

import pytest
from packing import everything
from pictures import picture, write_pictures
from PIL import Image

from imgclean.dataset.sources import read_source
from imgclean.dataset.vision import Relabelled


class InMemory:
    "A dataset as CIFAR10 is: pictures in memory, transforms on the way out"

    classes = ("cat", "dog")

    def __init__(self, n=3, transform=None, target_transform=None):
        self.images = [picture(k) for k in range(n)]
        self.targets = [k % 2 for k in range(n)]
        self.transform, self.target_transform = transform, target_transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, k):
        image, target = self.images[k], self.targets[k]
        image = self.transform(image) if self.transform else image
        return image, self.target_transform(target) if self.target_transform else target


def test_pictures_in_memory_are_written_without_their_transforms(tmp_path):
    ds = InMemory(transform=lambda im: im.size, target_transform=lambda t: t + 10)
    items = read_source(ds, folder=tmp_path / "out")
    assert items.labels == ("cat", "dog", "cat") and [p.name for p in items.paths] == [
        "0.png",
        "1.png",
        "2.png",
    ]
    assert Image.open(items.paths[1]).tobytes() == ds.images[1].tobytes()
    assert read_source(ds, folder=tmp_path / "out") == items
    out = replace(items, labels=("cat", "dog", "bird")).subset([2, 1]).as_source()
    assert [out[k] for k in range(2)] == [((96, 80), 12), ((96, 80), 11)]
    assert out.dataset.classes == ["cat", "dog", "bird"] and ds.targets == [0, 1, 0] and ds[2][1] == 10
    assert items.subset([0]).as_source().dataset is ds


def test_folders_of_torchvision_keep_their_files(shop):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    from torch.utils.data import Subset

    was, ds = everything(shop), torchvision.datasets.ImageFolder(shop)
    items = read_source(ds)
    assert [str(p) for p in items.paths] == [path for path, _ in ds.samples]
    assert items.labels == ("cat",) * 4 + ("dog",) * 4 and items.root == shop
    out = replace(items, labels=("dog", *items.labels[1:])).subset([0, 1]).as_source()
    assert isinstance(out, Subset) and [out[k][1] for k in range(2)] == [1, 0] and everything(shop) == was
    part = read_source(Subset(Subset(ds, [1, 3, 5, 7]), [3, 0]))
    assert [part.relpath(k) for k in range(2)] == ["dog/d.jpg", "cat/b.jpg"] and part.labels == ("dog", "cat")
    back = replace(part, labels=("dog", "dog")).subset([1]).as_source()
    assert back[0][1] == 1 and len(back) == 1


def test_targets_without_classes_are_numbers():
    ds = InMemory()
    ds.classes = None
    assert read_source(ds).labels == ("0", "1", "0")
    assert Relabelled(ds, {1: "7"})[1][1] == 7
    with pytest.raises(ValueError, match="no classes, so 'bird' cannot be one"):
        Relabelled(ds, {1: "bird"})
    ds.targets = [{"boxes": []}, "cat", 1.5]
    assert read_source(ds).labels == (None, "cat", None)


def test_what_holds_no_pictures_is_refused():
    ds = InMemory()
    ds.images[1] = b"bytes"
    with pytest.raises(TypeError, match="item 1 of the InMemory is a bytes, not a PIL image"):
        read_source(ds)
    with pytest.raises(ValueError, match="the InMemory is empty"):
        read_source(InMemory(0))


def test_relabelled_datasets_travel_to_other_processes(tmp_path):
    write_pictures(tmp_path, ["a/1.jpg"], [1])
    back = pickle.loads(pickle.dumps(Relabelled(InMemory(), {0: "dog"})))
    assert (back[0][1], back[1][1], len(back)) == (1, 1, 3)


def test_relabelled_datasets_are_read_again_with_their_new_labels(shop):
    torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
    was = torchvision.datasets.ImageFolder(shop, transform=torchvision.transforms.ToTensor())
    items = read_source(was)
    first = replace(items, labels=("dog", "bird", *items.labels[2:])).subset([7, 1, 0, 4]).as_source()
    again = read_source(first)
    assert [p.name for p in again.paths] == ["d.jpg", "b.jpg", "a.jpg", "a.jpg"]
    assert again.labels == ("dog", "bird", "dog", "dog") and again.root == shop
    second = replace(again, labels=("dog", "cat", "fish", "dog")).subset([2, 1, 0]).as_source()
    assert read_source(second).labels == ("fish", "cat", "dog")
    assert [second[k][1] for k in range(3)] == [3, 0, 1]
    assert tuple(second.dataset.classes) == ("cat", "dog", "bird", "fish")
