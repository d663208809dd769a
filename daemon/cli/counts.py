"""Verbs that count experiences: stats, categories."""

from __future__ import annotations

from daemon.cli.app import AsJson, app, settings, show
from daemon.wiring import at_work, open_store
from scorers.panel import panel_id
from store.counts import by_category, counts


@app.command()
def stats(as_json: AsJson = False) -> None:
    """Count experiences by source, label, decision and tag, and feedback by kind.

    What the store takes on the disk is told by `bhavana store stats`.
    """
    configured = settings()
    with open_store(configured) as store:
        found = counts(store, panel_id(at_work(configured, store).panel))
    parts = (
        ("sources", found.sources),
        ("labels by the panel at work", found.labels),
        ("decisions by people", found.decisions),
        ("feedback", found.feedback),
        ("tags", found.tags),
    )

    def text() -> str:
        lines = [f"{sum(found.sources.values())} experiences"]
        for title, of in parts:
            lines += ["", title, *(f"  {name:24}{n:>9}" for name, n in of.items())]
        return "\n".join(lines)

    show(found, as_json, text)


@app.command()
def categories(as_json: AsJson = False) -> None:
    """Count experiences by category and difficulty, and how many the panel finds good."""
    configured = settings()
    with open_store(configured) as store:
        cells = by_category(store, panel_id(at_work(configured, store).panel))

    def text() -> str:
        head = f"{'category':14}{'difficulty':12}{'experiences':>12}{'excellent':>11}{'good':>7}"
        rows = [
            f"{cell.category or '-':14}{cell.difficulty or '-':12}{cell.experiences:>12}"
            f"{cell.excellent:>11}{cell.good:>7}"
            for cell in cells
        ]
        return "\n".join([head, *rows]) if cells else "Nothing is recorded yet."

    show(cells, as_json, text)
