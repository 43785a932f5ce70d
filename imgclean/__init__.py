"""Find, review and clean duplicate images of a dataset: a fastai Learner looks, a person decides.

>>> from imgclean import DatasetFormatter, ImageCleaner
>>> ds, idxs = DatasetFormatter.from_similars("photos")   # or a fastai Learner
>>> ImageCleaner(ds, idxs, duplicates=True)               # the grid; decisions are on disk at once
"""

import warnings
from importlib import import_module

__version__ = "0.1.0"

# fastai 2.8 says so on every import under torch 2.13 and later; nobody who reads it can do anything about it.
warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)

# name -> the module it lives in; imported on first use, since torch and fastai take seconds to import
_HOMES = {
    "ClassConfusion": "review.confusion",
    "DatasetFormatter": "formatter",
    "GeM": "features.pooling",
    "Group": "find.groups",
    "ImageCleaner": "review.cleaner",
    "Index": "query",
    "Items": "dataset.items",
    "KMeans": "find.kmeans",
    "LSHIndex": "find.lsh",
    "Leaks": "leaks",
    "Pairs": "find.pairs",
    "PredictionsCorrector": "review.corrector",
    "Review": "review.session",
    "SiameseImage": "find.siamese",
    "SimilarityFinder": "find.finder",
    "build_index": "query",
    "calibrate_by_review": "judging",
    "classifier_learner": "find.siamese",
    "cluster_pairs": "find.clusters",
    "comb_similarity": "find.similarity",
    "data_deleter": "dataset.cleaned",
    "default_learner": "features.backbones",
    "embed": "features.activations",
    "explain_pair": "find.explain",
    "export_decisions": "review.exchange",
    "find_duplicates_ray": "scaleout",
    "find_label_errors": "label_errors",
    "find_leaks": "leaks",
    "find_pairs": "find.clusters",
    "find_similar": "query",
    "fit_head": "find.siamese_head",
    "leak_free_column": "find.splits",
    "leak_free_splitter": "find.splits",
    "leak_report": "leaks",
    "nearest": "find.similarity",
    "pairs_to_judge": "judging",
    "read_source": "dataset.sources",
    "sample_dataset": "dataset.samples",
    "siamese_learner": "find.siamese",
    "siamese_pairs": "find.siamese",
    "similar_pairs": "find.similarity",
    "similar_pairs_between": "find.similarity",
    "write_report": "review.report",
}

__all__ = [*_HOMES]


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'imgclean' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
