"""Colours as those see them who lack one kind of cone: pixels of the page in a browser."""

from __future__ import annotations

import io
import itertools
import math
from typing import Any
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.image import imread
from playwright.sync_api import sync_playwright

from bench.analysis.judgement import Verdict
from reports.charts import charts_of
from reports.charts.style import ARM, OUTCOME
from reports.page import render_page
from tests.browsing import CHROMIUM, NEEDS_BROWSER
from tests.reports.cases import SETUP, better_case, run_with, scraped_case, searched_case

Floats = npt.NDArray[np.float64]

# Differences by CIEDE2000: about 2 can just be seen side by side, 10 at a glance.
ARMS_APART, VERDICTS_APART = 40, 10
ARMS, VERDICTS = ("control", "treatment"), tuple(one.value for one in Verdict)
_PX = 20


def lab(rgb: Floats) -> Floats:
    """CIELAB of a colour in sRGB (0 to 1), under D65."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.array(to_xyz) @ linear / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(one: Floats, other: Floats) -> float:
    """The difference of two colours in CIELAB, by CIE 142-2001."""
    chroma = (math.hypot(*one[1:]) + math.hypot(*other[1:])) / 2
    stretch = 1 + 0.5 * (1 - math.sqrt(chroma**7 / (chroma**7 + 25**7)))
    (l1, a1, b1), (l2, a2, b2) = one, other
    c1, c2 = math.hypot(a1 * stretch, b1), math.hypot(a2 * stretch, b2)
    h1, h2 = (math.atan2(b, a * stretch) for a, b in ((a1, b1), (a2, b2)))
    turn = (h2 - h1 + math.pi) % (2 * math.pi) - math.pi
    hue, light, chroma = h1 + turn / 2, (l1 + l2) / 2, (c1 + c2) / 2
    t = 1 - 0.17 * math.cos(hue - math.radians(30)) + 0.24 * math.cos(2 * hue)
    t += 0.32 * math.cos(3 * hue + math.radians(6)) - 0.2 * math.cos(4 * hue - math.radians(63))
    degrees = math.degrees(hue) % 360
    blue = math.radians(60) * math.exp(-(((degrees - 275) / 25) ** 2))
    rotation = -2 * math.sqrt(chroma**7 / (chroma**7 + 25**7)) * math.sin(blue)
    in_light = (l2 - l1) / (1 + 0.015 * (light - 50) ** 2 / math.sqrt(20 + (light - 50) ** 2))
    in_chroma = (c2 - c1) / (1 + 0.045 * chroma)
    in_hue = 2 * math.sqrt(c1 * c2) * math.sin(turn / 2) / (1 + 0.015 * chroma * t)
    return math.sqrt(in_light**2 + in_chroma**2 + in_hue**2 + rotation * in_chroma * in_hue)


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((22.7233, 20.0904, -46.694), (23.0331, 14.973, -42.5619), 2.0373),
    ],
)
def test_the_difference_of_colours_is_that_of_published_pairs(
    one: tuple[float, ...], other: tuple[float, ...], difference: float
) -> None:
    assert ciede2000(np.array(one), np.array(other)) == pytest.approx(difference, abs=1e-4)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("page") / "comparison.html"
    path.write_text(render_page(run_with(better_case())), "utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = browser.new_page()
        opened.goto(path.as_uri())
        add = "html => document.querySelector('main').insertAdjacentHTML('afterbegin', html)"
        opened.evaluate(add, "".join(map(swatch, PARTS)))
        yield opened
        browser.close()


# What has a colour: the name of its part of the page, and of the arm or verdict.
PARTS = (
    *itertools.product(("text", "chart"), ARMS),
    *itertools.product(("badge", "line", "chart"), VERDICTS),
)


def swatch(part: tuple[str, str]) -> str:
    """A square in the colour that this part of the page has by the page's own style."""
    kind, name = part
    box = f'id="{kind}-{name}" style="width: {_PX}px; height: {_PX}px'
    if kind == "chart":
        arms = {str(role): one.colour for role, one in ARM.items()}
        fill = quote(arms.get(name) or OUTCOME[Verdict(name)])
        drawn = f"<rect width='99' height='99' fill='{fill}'/>"
        svg = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'>{drawn}</svg>"
        return f'<figure {box}"><img alt="" src="data:image/svg+xml,{svg}"></figure>'
    if kind == "line":
        return f'<svg class="{name}" {box}"><rect width="99" height="99" fill="var(--line)"/></svg>'
    colour = "var(--c)" if kind == "badge" else "var(--arm)"
    return f'<div class="{name}" {box}; background: {colour}"></div>'


def seen(page: Any, kind: str, name: str) -> Floats:
    """The colour of the middle of a swatch."""
    pixels = imread(io.BytesIO(page.locator(f"#{kind}-{name}").screenshot()))
    return np.array(pixels[_PX // 2, _PX // 2, :3], dtype=np.float64)


@NEEDS_BROWSER
@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("lack", ["none", "protanopia", "deuteranopia", "tritanopia"])
def test_arms_and_verdicts_differ_in_every_eye(page: Any, scheme: Any, lack: str) -> None:
    page.emulate_media(color_scheme=scheme)
    session = page.context.new_cdp_session(page)
    session.send("Emulation.setEmulatedVisionDeficiency", {"type": lack})
    colours = {part: lab(seen(page, *part)) for part in PARTS}
    session.detach()
    for (kind, one), (of, other) in itertools.combinations(PARTS, 2):
        if kind == of and (one in ARMS) == (other in ARMS):
            apart = ciede2000(colours[kind, one], colours[of, other])
            bound = ARMS_APART if one in ARMS else VERDICTS_APART
            assert apart >= bound, (kind, one, other)


@pytest.mark.parametrize("case", [scraped_case(), searched_case()], ids=["scraped", "searched"])
def test_no_arm_is_told_by_colour_alone(case: Any) -> None:
    """Marks of one arm have a marker, dashes, a hatch or a place that those of the other lack."""
    told = 0
    for chart in charts_of(case, SETUP):
        looks = {role: looks_of(chart.figure, look.colour) for role, look in ARM.items()}
        assert not looks["control"] & looks["treatment"], chart.title
        told += bool(looks["control"] and looks["treatment"])
    assert told >= 3


def looks_of(figure: Any, colour: str) -> set[object]:
    """What the lines, points and bars of this colour have beside it."""
    found: set[object] = set()
    for axes in figure.axes:
        for line in axes.lines:
            if to_hex(line.get_color()) == colour:
                found.add((line.get_linestyle(), line.get_marker()))
        for points in axes.collections:
            if isinstance(points, PathCollection) and colour in map(to_hex, points.get_edgecolor()):
                found.add(np.asarray(points.get_paths()[0].vertices).tobytes())
        for container in axes.containers:
            for bar in container.patches:
                if to_hex(bar.get_facecolor()) == colour:
                    found.add(bar.get_hatch())
    return found
