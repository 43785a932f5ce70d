"""`Clashes`: what a review can do about copies of one picture that carry different labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from .decisions import Change


class Clashes:
    "The part of `Review` that is about groups whose labels differ"

    def is_clash(self, g: int) -> bool:
        "Whether images of group `g` that show one picture carry different labels, see `clash_in_words`."
        return any(len(self._votes(part)) > 1 for part in self.parts(g))

    def agreed(self, gs: Iterable[int]) -> list[int]:
        "Those of groups `gs` whose labels agree, and that share no image with a group whose labels differ."
        clashing = {k for g, group in enumerate(self.groups) if self.is_clash(g) for k in group}
        return [g for g in gs if clashing.isdisjoint(self.groups[g])]

    def majority_label(self, g: int) -> str | None:
        "The label that more images of group `g` carry than any other; None where labels tie, there are none, or its pictures differ in it."
        most = {_most(votes) for part in self.parts(g) if (votes := self._votes(part))}
        return most.pop() if len(most) == 1 else None

    def clash_in_words(self, g: int) -> str:
        """Which labels each picture of group `g` carries, most frequent first; empty where they agree.

        What was told to be another picture counts for itself, and what is marked for deletion only where all copies are.
        """
        return "; ".join(_in_words(votes) for part in self.parts(g) if len(votes := self._votes(part)) > 1)

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

        Who counts is as for `clash_in_words`; what is marked for deletion gets the label, too, as the mark may be taken back.
        Unlabelled images, and ties that `ks` do not break, stay.
        """
        gs, ks, new = self._groups(gs), set(self._indices(ks)), {}
        with self.lock:
            self._catch_up()
            for part in [part for g in gs for part in self.parts(g)]:
                votes = self._votes(part)
                label = _most(votes) or _most(self._votes([k for k in part if k in ks]))
                if label is not None:
                    new |= {k: label for k in part if self._says_other(k, label)}
            self._do("relabel", Change(labels={k: self._own(k, label) for k, label in new.items()}))
        return len(new)

    def drop_all(self, gs: int | Iterable[int]) -> int:  # images that are marked
        "Mark every image of groups `gs` for deletion, but for those that are protected, as one step."
        marks = {k: "delete" for g in self._groups(gs) for k in self.groups[g] if k not in self.protected}
        self._do("drop all", Change(marks))
        return len(marks)

    def _votes(self, part: Sequence[int]) -> Counter:
        "How many images of `part` carry each label, in the first spelling of it: those that stay, or all where none does."
        voters = [k for k in part if self.mark_of(k) != "delete"] or part
        labels = [label for label in map(self.label_of, voters) if label is not None]
        spelled = {self._meaning(label): label for label in reversed(labels)}
        return Counter(spelled[self._meaning(label)] for label in labels)

    def _says_other(self, k: int, label: str) -> bool:
        own = self.label_of(k)
        return own is not None and self._meaning(own) != self._meaning(label)

    def _meaning(self, label: str) -> str | frozenset:
        "What is the same for labels that say the same: where an image has several, their order says nothing."
        delim = self.items.label_delim
        return frozenset(label.split(delim)) - {""} if delim else label


def _in_words(votes: Counter) -> str:
    counted = ", ".join(
        f"{n} {label}" for label, n in sorted(votes.items(), key=lambda vote: (-vote[1], vote[0]))
    )
    most = _most(votes)
    return f"labels differ, most say {most}: {counted}" if most else f"labels differ and tie: {counted}"


def _most(votes: Counter) -> str | None:
    (first, n), (_, runner_up) = [*votes.most_common(2), (None, 0), (None, 0)][:2]
    return first if n > runner_up else None
