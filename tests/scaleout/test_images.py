from pathlib import Path

from imgclean.scaleout.images import Images, place_of


def test_fetched_images_have_the_labels_of_their_ids():
    data = {"train/cat/1.png": b"one", "a.tar/dog/2.jpg": b"two", "b.tar/3.jpg": None}

    def fetch(ids):
        return ((name, data[name], "") for name in sorted(ids))

    with Images(fetch=fetch).items(list(data)) as items:
        assert items.labels == ("cat", "dog", None) and items.splits == ("train", None, None)
        assert [path.read_bytes() if path.exists() else None for path in items.paths] == list(data.values())
        assert [path.suffix for path in items.paths] == [".png", ".jpg", ".jpg"]
        folder = items.root
    assert not folder.exists()


def test_images_of_a_folder_stay_where_they_are():
    with Images(Path("/data")).items(["cat/1.png"]) as items:
        assert items.paths == (Path("/data/cat/1.png"),) and items.labels == ("cat",)


def test_no_id_leads_out_of_the_folder_of_fetched_images():
    assert place_of("cat/1.png") == "cat/1.png"
    for name in ("../1.png", "/etc/1.png", "a/../../1.png"):
        assert "/" not in place_of(name) and place_of(name).endswith(".png")
