"""`SimilarityFinder`: the image that a siamese network finds most similar, and a picture of why."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from ..dataset.images import UnreadableImage, open_image
from ..dataset.items import Items
from ..features.backbones import evaluating
from ..features.inputs import batch_of
from ..features.predictions import predict
from .explain import pair_cams, show_maps
from .siamese import SiameseImage, encoded, eye_of, siamese_scores
from .similarity import nearest


class SimilarityFinder:
    """Looks for the most similar of `files`: first by class, then pair by pair, in one batch.

    Encodings are kept, so a second query looks at its own image alone. Source: "Image similarity: theory and code".
    """

    def __init__(
        self,
        classifier_learner,  # tells the class of an image; None: `within_class=False` alone
        siamese_learner,  # of `siamese_learner`
        files: Sequence[str | os.PathLike] | Items,
        label_func: Callable | None = None,  # default: the siamese Learner's labels, else the folder's name
    ):
        self.clearn, self.slearn = classifier_learner, siamese_learner
        items = files if isinstance(files, Items) else Items.from_paths(files)
        self._eye = eye_of(siamese_learner, items)
        self.vectors, self.items = encoded(self._eye, items, progress=False)
        self.labels = self._labels(label_func)
        self.lbl2files = defaultdict(list)
        for path, label in zip(self.items.paths, self.labels, strict=True):
            self.lbl2files[label].append(path)
        self._asked: dict[Path, np.ndarray] = {}
        self.pair: tuple[Path, Path] | None = None  # of the last `predict`

    def predict(
        self,
        fn: str | os.PathLike,
        compare_n: int = 15,  # files that it is compared with
        *,
        within_class: bool = True,  # with files of its class alone; False: with those of the nearest encodings
        show: bool = True,
    ) -> Path:
        "The most similar file; draws both with the probability that they are of one class."
        [(best, score)] = self.similar(fn, 1, compare_n=compare_n, within_class=within_class)
        self.pair = Path(fn), best
        if show:
            images = (open_image(path) for path in self.pair)
            SiameseImage(*images).show(title=f"{100 * score:.2f} % similarity")
        return best

    def similar(
        self,
        fn: str | os.PathLike,
        n: int = 5,
        *,
        compare_n: int | None = None,  # files that it is compared with; default: all that come into question
        within_class: bool = True,
    ) -> list[tuple[Path, float]]:  # file, probability of being of one class; best first
        "The `n` most similar files; `fn` itself is none of them. Raises `ValueError` where there is nothing to compare with."
        if n < 1 or (compare_n is not None and compare_n < 1):
            raise ValueError(f"n is {n} and compare_n {compare_n}; ask for at least one")
        own = self._encoding(Path(fn))
        ks = self._of_class(Path(fn)) if within_class else self._nearest(own, compare_n)
        me = os.path.abspath(fn)
        ks = [k for k in ks if os.path.abspath(self.items.paths[k]) != me][:compare_n]
        if not ks:
            raise ValueError(f"{Path(fn).name} is the only one of its class; give within_class=False")
        scores = siamese_scores(self.slearn, np.repeat(own[None], len(ks), 0), self.vectors[ks])
        order = np.argsort(-scores, kind="stable")[:n]
        return [(self.items.paths[ks[k]], float(scores[k])) for k in order]

    def similar_cams(
        self, method: str = "gradcam", *, show: bool = True
    ) -> list[torch.Tensor]:  # (h, w) of each image
        """Where in the two images of the last `predict` the answer "of one class" comes from; draws both.

        `method="article"` multiplies the maps by the weights of the last layer, for encoders with as many maps as it has inputs.
        """
        if self.pair is None:
            raise ValueError("there is no pair yet; call predict first")
        found = pair_cams(self.slearn, *self.pair, method)
        if show:
            show_maps(self.pair, found, one_scale=False)  # gradients of two images have no common unit
        return found

    def _labels(self, label_func: Callable | None) -> list[str]:
        if label_func is not None:
            return [str(label_func(path)) for path in self.items.paths]
        trained = getattr(self.slearn.dls, "imgclean_items", self.items)  # an exported Learner has none
        known = dict(zip(trained.paths, trained.labels, strict=True))
        own = zip(self.items.paths, self.items.labels, strict=True)
        return [label or known.get(path) or path.parent.name for path, label in own]

    def _encoding(self, path: Path) -> np.ndarray:  # (2 nf,)
        if path not in self._asked:
            try:
                x = batch_of(self._eye, path)
            except UnreadableImage as err:
                raise ValueError(f"{path.name}: {err}; give an image that can be read") from None
            model = self.slearn.model
            with evaluating(model), torch.no_grad():
                self._asked[path] = model.head[:2](model.encoder(x))[0].float().cpu().numpy()
        return self._asked[path]

    def _of_class(self, path: Path) -> Iterable[int]:
        if self.clearn is None:
            raise ValueError("there is no classifier to tell the class; give within_class=False")
        seen = predict(self.clearn, Items.from_paths([path]), progress=False)
        label = seen.classes[int(seen.probs[0].argmax())]
        ks = [k for k, own in enumerate(self.labels) if own == label]
        if not ks:
            raise ValueError(
                f"{path.name} looks like {label!r}, and none of the files is one; give within_class=False"
            )
        return ks

    def _nearest(self, own: np.ndarray, n: int | None) -> Iterable[int]:
        k = len(self.items) if n is None else min(n + 1, len(self.items))
        index, _ = nearest(own[None], k, others=self.vectors)
        return [i for i in index[0].tolist() if i >= 0]
