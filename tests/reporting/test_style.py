import re

from gcsam_med.reporting.style import COLOURS, inline_svg, look, new_figure, to_svg


def drawing(text):
    with look():
        figure, axes = new_figure()
        axes.plot([0, 1], [0, 1], color=COLOURS["series-1"], label=text)
        axes.set_title(text)
        axes.legend()
    return to_svg(figure)


def test_colours_become_the_page_s():
    """Oracle: no colour of the light theme is left, and each became the variable of its role."""
    svg = inline_svg(drawing("a"), "x", "t", "d")
    assert not re.findall(r"#[0-9a-f]{6}\b", svg)
    assert "var(--series-1)" in svg
    assert "<style" not in svg
    assert "var(" not in inline_svg(drawing("a"), "x", "t", "d", themed=False)


def test_two_drawings_share_no_id():
    """Oracle: ids of a page must be unique."""
    ids = [set(re.findall(r'\bid="([^"]+)"', inline_svg(drawing("a"), p, "t", "d"))) for p in ("x", "y")]
    assert not ids[0] & ids[1]
    assert all(ids)


def test_text_is_escaped_and_never_read_as_a_formula():
    """Oracle: the text itself comes back after unescaping."""
    from html import unescape

    text = "$x_{$ <b>&amp;</b> -->"
    assert text in unescape(drawing(text))
    assert "<b>" not in inline_svg(drawing(text), "x", text, text)
