"Two classes of pictures that even a frozen network tells apart, and a siamese Learner of them."

import pytest
import torch
from pictures import picture
from PIL import Image

from imgclean.find.siamese import siamese_learner


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    "Eight pictures in red, eight in blue."
    root = tmp_path_factory.mktemp("pictures")
    for label, colour in (("red", (220, 30, 30)), ("blue", (30, 30, 220))):
        (root / label).mkdir()
        for k in range(8):
            tint = Image.new("RGB", (96, 80), colour)
            Image.blend(picture(k), tint, 0.7).save(root / label / f"{k}.png")
    return root


@pytest.fixture(scope="module")
def learn(folder):
    torch.manual_seed(0)
    return siamese_learner(folder, size=64, bs=4, num_workers=0)
