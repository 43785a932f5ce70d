"""`from imgclean.all import *` for notebooks, beside `from fastai.vision.all import *`."""

from .dataset.cleaned import data_deleter
from .dataset.items import Items
from .dataset.samples import sample_dataset
from .dataset.sources import read_source
from .features.activations import embed
from .features.backbones import default_learner
from .features.pooling import GeM
from .find.clusters import cluster_pairs, find_pairs
from .find.explain import explain_pair
from .find.finder import SimilarityFinder
from .find.groups import Group
from .find.kmeans import KMeans
from .find.lsh import LSHIndex
from .find.pairs import Pairs
from .find.siamese import SiameseImage, classifier_learner, siamese_learner, siamese_pairs
from .find.siamese_head import fit_head
from .find.similarity import comb_similarity, nearest, similar_pairs, similar_pairs_between
from .find.splits import leak_free_column, leak_free_splitter
from .formatter import DatasetFormatter
from .judging import calibrate_by_review, pairs_to_judge
from .label_errors import find_label_errors
from .leaks import Leaks, find_leaks, leak_report
from .query import Index, build_index, find_similar
from .review.cleaner import ImageCleaner
from .review.confusion import ClassConfusion
from .review.corrector import PredictionsCorrector
from .review.exchange import export_decisions
from .review.report import write_report
from .review.session import Review
from .scaleout import find_duplicates_ray

__all__ = [
    "ClassConfusion",
    "DatasetFormatter",
    "GeM",
    "Group",
    "ImageCleaner",
    "Index",
    "Items",
    "KMeans",
    "LSHIndex",
    "Leaks",
    "Pairs",
    "PredictionsCorrector",
    "Review",
    "SiameseImage",
    "SimilarityFinder",
    "build_index",
    "calibrate_by_review",
    "classifier_learner",
    "cluster_pairs",
    "comb_similarity",
    "data_deleter",
    "default_learner",
    "embed",
    "explain_pair",
    "export_decisions",
    "find_duplicates_ray",
    "find_label_errors",
    "find_leaks",
    "find_pairs",
    "find_similar",
    "fit_head",
    "leak_free_column",
    "leak_free_splitter",
    "leak_report",
    "nearest",
    "pairs_to_judge",
    "read_source",
    "sample_dataset",
    "siamese_learner",
    "siamese_pairs",
    "similar_pairs",
    "similar_pairs_between",
    "write_report",
]
