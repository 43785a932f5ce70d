"A small Learner of the eight pictures."

import pytest
import torch
from fastai.vision.all import ImageDataLoaders, Resize, aug_transforms, vision_learner
from networks import resnet10


@pytest.fixture
def learn(shop):
    torch.manual_seed(0)
    dls = ImageDataLoaders.from_folder(
        shop, valid_pct=0.25, seed=1, item_tfms=Resize(64), batch_tfms=aug_transforms(), bs=2, num_workers=0
    )
    return vision_learner(dls, resnet10, pretrained=False)
