"""Actors write what one machine would, whatever is killed, and nothing is looked at twice."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from fastai.layers import AdaptiveConcatPool2d
from fastai.vision.all import ImageDataLoaders, Resize, vision_learner
from networks import resnet10
from pictures import picture, write_pictures
from test_scale_sources import write_parquet, write_tar

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed; pip install 'imgclean[ray]'")
pytest.importorskip("ray.data", reason="Ray is not installed; pip install 'imgclean[ray]'")

from imgclean.dataset.cleaned import content_digest  # noqa: E402
from imgclean.dataset.images import UnreadableImage, open_image  # noqa: E402
from imgclean.dataset.items import Items  # noqa: E402
from imgclean.features.activations import embed  # noqa: E402
from imgclean.scaleout.embedding import embed_source  # noqa: E402
from imgclean.scaleout.looking import Model  # noqa: E402
from imgclean.scaleout.sources import find_source  # noqa: E402


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return resnet10().eval()


def spying(log: Path | None = None, wait: float = 0.0):
    "A transform that notes, in a file each, which process looked at which picture."

    def tfm(image):
        if log is not None:
            digest = hashlib.blake2b(image.tobytes(), digest_size=8).hexdigest()
            (log / f"{digest}-{os.getpid()}-{time.time_ns()}").touch()
            time.sleep(wait)
        small = np.array(image.resize((32, 32)), dtype=np.float32)
        return torch.from_numpy(small).permute(2, 0, 1) / 255

    return tfm


def looked_at(log: Path, folder: Path) -> Counter:  # name of an image -> how often
    digests = {}
    for path in folder.rglob("*.png"):
        with suppress(UnreadableImage):
            digests[hashlib.blake2b(open_image(path).tobytes(), digest_size=8).hexdigest()] = path.name
    seen = (file.name.split("-")[0] for file in log.iterdir())
    return Counter(digests[digest] for digest in seen if digest in digests)


def model_of(learn, tfm=None) -> Model:
    return Model.of(learn, None, tfm, None, AdaptiveConcatPool2d, 1, None, 8)


def run(source, out, model, concurrency: int = 1, **kwargs):
    return embed_source(find_source(source), out, model, concurrency=concurrency, progress=False, **kwargs)


def written(out: Path) -> dict[str, tuple[bytes, bytes]]:  # id -> digest, vector
    tables = [pq.read_table(file) for file in (out / "embeddings").glob("part-*.parquet")]
    rows = [row for table in tables for row in table.to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows), "an image is there twice"
    return {row["id"]: (row["digest"], np.float32(row["vector"]).tobytes()) for row in rows}


def listed(out: Path) -> dict[str, str]:  # id -> error
    rows = [r for f in (out / "unreadable").glob("part-*.parquet") for r in pq.read_table(f).to_pylist()]
    assert len({row["id"] for row in rows}) == len(rows)
    return {row["id"]: row["error"] for row in rows}


def of_one_machine(learn, folder: Path, tfm=None) -> dict[str, tuple[bytes, bytes]]:
    seen = embed(learn, Items.from_folder(folder), tfm=tfm, bs=8, num_workers=0, progress=False)
    return {
        seen.items.relpath(k): (content_digest(seen.items.paths[k]), seen.vectors[k].tobytes())
        for k in range(len(seen.items))
    }


def test_a_learner_gives_the_vectors_of_one_machine(small_ray, photos, tmp_path):
    exif = picture(70).getexif()
    exif[0x0112] = 6  # lies on its side
    picture(70).save(photos / "turned.jpg", exif=exif)
    (photos / "a/broken.png").write_bytes((photos / "a/000.png").read_bytes()[:200])
    (photos / "a/empty.jpg").touch()
    torch.manual_seed(0)
    dls = ImageDataLoaders.from_folder(
        photos, valid_pct=0.2, seed=1, item_tfms=Resize(48), bs=4, num_workers=0
    )
    learn = vision_learner(dls, resnet10, pretrained=False)
    expected = of_one_machine(learn, photos)
    done = run(photos, tmp_path / "out", model_of(learn))
    assert written(tmp_path / "out") == expected and len(expected) == 61
    bad = embed(learn, Items.from_folder(photos), num_workers=0, progress=False).items.unreadable
    assert listed(tmp_path / "out") == {b.path.relative_to(photos).as_posix(): b.error for b in bad}
    assert (done.images, done.unreadable, done.looked) == (61, 2, 63)


def test_tars_and_parquet_give_the_same(small_ray, photos, tmp_path):
    tfm, names = spying(), sorted(p.relative_to(photos).as_posix() for p in photos.rglob("*.png"))
    expected = of_one_machine(network(), photos, tfm)
    write_tar(tmp_path / "tars" / "0.tar", photos, names[:40])
    write_tar(tmp_path / "tars" / "1.tar", photos, names[40:])
    write_parquet(tmp_path / "tables" / "x.parquet", photos, names, path=names)
    (tmp_path / "out").mkdir()
    run(tmp_path / "tars", tmp_path / "out" / "a", model_of(network(), tfm))
    run(tmp_path / "tables", tmp_path / "out" / "b", model_of(network(), tfm))
    assert {name.partition("/")[2]: row for name, row in written(tmp_path / "out" / "a").items()} == expected
    assert written(tmp_path / "out" / "b") == expected
    again = run(tmp_path / "tars", tmp_path / "out" / "a", model_of(network(), tfm))
    assert (again.images, again.looked) == (60, 0)


def test_gpus_are_given_to_the_actors_and_cores_decode_for_them(small_ray, photos, tmp_path):
    log = tmp_path / "log"
    log.mkdir()

    class Telling(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            import ray

            if ray.is_initialized():
                (log / f"{ray.get_gpu_ids()}-{os.getpid()}").touch()
            return self.model(x)

    decoded = tmp_path / "decoded"
    decoded.mkdir()
    (photos / "a/broken.png").write_bytes(b"x")
    expected = of_one_machine(Telling(network()), photos, spying())
    for file in log.iterdir():
        file.unlink()
    run(photos, tmp_path / "out", model_of(Telling(network()), spying(decoded)), num_gpus=1)
    assert written(tmp_path / "out") == expected and set(listed(tmp_path / "out")) == {"a/broken.png"}
    seers = {file.name.split("-")[1] for file in log.iterdir() if file.name.startswith("[0]")}
    assert seers and not [f for f in log.iterdir() if f.name.startswith("[]")], "each had the GPU"
    decoders = {file.name.split("-")[1] for file in decoded.iterdir()}
    assert set(looked_at(decoded, photos).values()) == {1} and decoders - seers - {str(os.getpid())}
    with pytest.raises(ValueError, match="num_gpus is 3"):
        run(photos, tmp_path / "more", model_of(network(), spying()), None, num_gpus=3)


def test_only_new_images_are_looked_at_and_by_the_same_model(small_ray, photos, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    log.mkdir()
    run(photos, out, model_of(network(), spying()))
    files = {file: file.read_bytes() for file in out.rglob("*.*")}
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="embeddings by another model"):
        run(photos, out, model_of(resnet10().eval(), spying()))
    with pytest.raises(ValueError, match="holds the embeddings of"):
        run(photos / "a", out, model_of(network(), spying()))
    assert {file: file.read_bytes() for file in out.rglob("*.*")} == files
    before = written(out)
    write_pictures(photos, ["c/new.png", "a/0005.png"], [100, 101])
    (photos / "c/bad.png").write_bytes(b"x")
    done = run(photos, tmp_path / "out", model_of(network(), spying(log)))
    assert looked_at(log, photos) == {"new.png": 1, "0005.png": 1} and done.looked == 3
    after = written(tmp_path / "out")
    assert len(after) == 62 and all(after[name] == row for name, row in before.items())
    assert run(photos, tmp_path / "out", model_of(network(), spying(log))).looked == 0, "bad ones neither"


def test_an_actor_that_is_killed_costs_nothing(small_ray, photos, tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    killed = []

    def kill():
        "The first actor that has looked at five pictures."
        while not killed:
            by = Counter(
                f.name.split("-")[1] for f in log.iterdir() if f.name.split("-")[1] != str(os.getpid())
            )
            for pid, n in by.items():
                if n >= 5 + 3 and not killed:  # three made-up ones come first
                    os.kill(int(pid), signal.SIGKILL)
                    killed.append(pid)
            time.sleep(0.05)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    done = run(photos, tmp_path / "out", model_of(network(), spying(log, wait=0.05)), 2)
    assert killed and done.images == 60
    assert written(tmp_path / "out") == of_one_machine(network(), photos, spying())


DRIVER = """
import sys
from pathlib import Path
import ray
sys.path.insert(0, {tests!r})
from test_embedding import model_of, network, run, spying
ray.init(address={address!r}, log_to_driver=False)
run(Path({photos!r}), Path({out!r}), model_of(network(), spying(Path({log!r}), wait=0.05)))
"""


def test_a_driver_that_is_killed_goes_on_where_it_was(small_ray, photos, tmp_path):
    out, log, later = (tmp_path / name for name in ("out", "log", "later"))
    log.mkdir()
    later.mkdir()
    code = DRIVER.format(
        tests=str(Path(__file__).parent), address=small_ray.get_runtime_context().gcs_address,
        photos=str(photos), out=str(out), log=str(log),
    )  # fmt: skip
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1])])
    driver = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": path})
    try:
        deadline = time.monotonic() + 200
        while len(list((out / "embeddings").glob("part-*.parquet"))) < 2:
            assert driver.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        driver.kill()
        driver.wait()
    time.sleep(1)  # until Ray has stopped its actor
    there = set(written(out))
    assert 0 < len(there) < 60
    run(photos, out, model_of(network(), spying(later)))
    seen = looked_at(later, photos)
    assert not {name.split("/")[1] for name in there} & set(seen), "what was there is not looked at again"
    assert len(seen) == 60 - len(there)
    assert written(out) == of_one_machine(network(), photos, spying())
