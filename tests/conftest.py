"""What all tests share."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Whoever starts the tests in several processes may tell them a width; lines of output are looked at whole.
os.environ.pop("COLUMNS", None)

# Machines that run several things at once are slow now and then; a test is not wrong for that.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_collection_finish() -> None:
    """Keep what is loaded by now out of garbage collections; statsmodels' Holm starts one at every call."""
    gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none, and start with the files that hold slow tests."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if marked:
        import torch

        if not torch.cuda.is_available():
            for item in marked:
                item.add_marker(pytest.mark.skip(reason="no GPU here"))


@pytest.fixture(scope="module", autouse=True)
def _an_empty_figure_stands_for_each(request: pytest.FixtureRequest) -> Iterator[None]:
    """Render no figure where nobody looks at it: a third of an evaluation. Modules that look say so."""
    with pytest.MonkeyPatch.context() as patch:
        if not request.node.get_closest_marker("figures"):
            from gcsam_med.reporting import style

            of = style.Drawn.of
            empty = None

            def drawn(figure: object, key: str, title: str, caption: str, words: str) -> style.Drawn:
                nonlocal empty
                if empty is None:
                    with style.look():
                        empty = of(style.new_figure()[0], "empty", "", "", "")
                return style.Drawn(key, title, caption, words, empty.svg, empty.png)

            patch.setattr(style.Drawn, "of", drawn)
        yield
