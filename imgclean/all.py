"""`from imgclean.all import *` for notebooks, beside `from fastai.vision.all import *`."""

from .dataset.items import Items
from .dataset.samples import sample_dataset
from .features.activations import embed
from .features.backbones import default_learner
from .features.pooling import GeM
from .find.groups import Group
from .find.pairs import Pairs
from .find.similarity import similar_pairs
from .formatter import DatasetFormatter
from .review.cleaner import ImageCleaner
from .review.session import Review

__all__ = [
    "DatasetFormatter",
    "GeM",
    "Group",
    "ImageCleaner",
    "Items",
    "Pairs",
    "Review",
    "default_learner",
    "embed",
    "sample_dataset",
    "similar_pairs",
]
