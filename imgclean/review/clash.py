"""`Clashes`: what a review can do about copies of one picture that carry different labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from .decisions import Change


class Clashes:
    "The part of `Review` that is about groups whose labels differ"

    def is_clash(self, g: int) -> bool:
        "Whether images of group `g` carry different labels."
        return len(self._votes(self.groups[g])) > 1

    def majority_label(self, g: int) -> str | None:
        "The label that more images of group `g` carry than any other; None where labels tie, or there are none."
        return _most(self._votes(self.groups[g]))

    def clash_in_words(self, g: int) -> str:
        "Which labels group `g` carries, most frequent first; empty where they agree."
        votes = self._votes(self.groups[g])
        if len(votes) < 2:
            return ""
        ranked = sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))
        counted = ", ".join(f"{n} {label}" for label, n in ranked)
        most = _most(votes)
        return f"labels differ, most say {most}: {counted}" if most else f"labels differ and tie: {counted}"

    def clashes_of(self, ks: Collection[int]) -> dict[int, str]:  # group -> words
        "What `clash_in_words` says of each group that holds one of the items `ks`."
        some = set(ks)
        groups = [g for g, group in enumerate(self.groups) if not some.isdisjoint(group)] if some else []
        return {g: self.clash_in_words(g) for g in groups}

    def relabel_to_majority(
        self,
        gs: int | Iterable[int],
        ks: int | Iterable[int] = (),  # items whose label is taken where labels tie
    ) -> int:  # images with another label than before
        """Give the images of each group the label that more of them carry than any other, as one step; where labels tie, that of `ks`.

        What was told to be another picture counts for itself. Unlabelled images, and ties that `ks` do not break, stay.
        """
        gs, ks, new = self._groups(gs), set(self._indices(ks)), {}
        with self.lock:
            self._catch_up()
            for part in [part for g in gs for part in self.parts(g)]:
                votes = self._votes(part)
                label = _most(votes) or _most(self._votes([k for k in part if k in ks]))
                if label is not None:
                    new |= {k: label for k in part if self.label_of(k) not in (None, label)}
            self._do("relabel", Change(labels={k: self._own(k, label) for k, label in new.items()}))
        return len(new)

    def drop_all(self, gs: int | Iterable[int]) -> int:  # images that are marked
        "Mark every image of groups `gs` for deletion, but for those that are protected, as one step."
        marks = {k: "delete" for g in self._groups(gs) for k in self.groups[g] if k not in self.protected}
        self._do("drop all", Change(marks))
        return len(marks)

    def _votes(self, ks: Sequence[int]) -> Counter:
        return Counter(label for label in map(self.label_of, ks) if label is not None)


def _most(votes: Counter) -> str | None:
    (first, n), (_, runner_up) = [*votes.most_common(2), (None, 0), (None, 0)][:2]
    return first if n > runner_up else None
