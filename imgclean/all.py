"""`from imgclean.all import *` for notebooks, beside `from fastai.vision.all import *`."""

from .dataset.items import Items
from .dataset.samples import sample_dataset
from .features.activations import embed
from .features.backbones import default_learner
from .features.pooling import GeM
from .find.clusters import cluster_pairs
from .find.groups import Group
from .find.kmeans import KMeans
from .find.lsh import LSHIndex
from .find.pairs import Pairs
from .find.similarity import similar_pairs
from .formatter import DatasetFormatter
from .query import Index, build_index, find_similar
from .review.cleaner import ImageCleaner
from .review.session import Review

__all__ = [
    "DatasetFormatter",
    "GeM",
    "Group",
    "ImageCleaner",
    "Index",
    "Items",
    "KMeans",
    "LSHIndex",
    "Pairs",
    "Review",
    "build_index",
    "cluster_pairs",
    "default_learner",
    "embed",
    "find_similar",
    "sample_dataset",
    "similar_pairs",
]
