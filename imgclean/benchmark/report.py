"""What was measured, for people: a markdown table, and a picture of precision against recall."""

from __future__ import annotations

from pathlib import Path

from .peers import Answer
from .scores import Truth, curve, hits, score

COLUMNS = {
    "pairs": "pairs",
    "precision": "precision",
    "recall": "recall",
    "average_precision": "average precision",
    "recall_at_precision_99": "recall at precision .99",
    "seconds": "seconds",
}


def write_table(reports: dict[str, dict], path: Path) -> None:  # tool -> what `accuracy` prints of it
    "One row for each tool; cells are empty where a tool has no scores to rank by."
    rows = [["", *COLUMNS.values()], ["---"] * (len(COLUMNS) + 1)]
    rows += [[name, *(_cell(key, report.get(key)) for key in COLUMNS)] for name, report in reports.items()]
    path.write_text("".join(f"| {' | '.join(row)} |\n" for row in rows), encoding="utf-8")


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return ""
    if column == "pairs":
        return f"{value:,}"
    return f"{value:.1f}" if column == "seconds" else f"{value:.3f}".removeprefix("0")


def draw_curves(answers: dict[str, Answer], truth: Truth, path: Path) -> None:
    "Precision against recall of each tool's ranking, a dot where its setting puts it."
    from matplotlib.figure import Figure  # without pyplot: no window, nothing to close

    true = len(truth.pairs())
    fig = Figure(figsize=(7, 5), layout="constrained")
    ax = fig.subplots()
    for k, (name, answer) in enumerate(answers.items()):
        if answer.ranked is not None and true:
            precision, recall = curve(hits(answer.ranked, truth), answer.ranked.score, true)
            ax.plot(recall, precision, color=f"C{k}", linewidth=1.5)
        at = score(answer.pairs, truth)
        ax.plot(at["recall"] or 0, at["precision"], "o", color=f"C{k}", label=name, clip_on=False, zorder=3)
    ax.set(xlabel="recall of pairs", ylabel="precision of pairs", xlim=(0, 1), ylim=(0, 1.02))
    ax.grid(alpha=0.3)
    fig.legend(title="dot: at this setting", loc="outside lower center", ncols=2, fontsize="small")
    fig.savefig(path, dpi=120)
