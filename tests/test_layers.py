"""The architecture's picture and contracts cover what there is."""

from __future__ import annotations

from tests.layers import PAGE, ROOT, page, reduced, root_packages


def test_the_picture_shows_the_code_as_it_is() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.layers"


def test_a_new_package_cannot_be_forgotten_by_the_contracts() -> None:
    packages = {file.parent.name for file in ROOT.glob("*/__init__.py")} - {"tests"}
    assert packages == set(root_packages())


def test_an_arrow_that_follows_from_others_is_left_out() -> None:
    found = {"top": {"middle", "bottom"}, "middle": {"bottom"}, "bottom": set[str]()}
    assert reduced(found) == {"top": {"middle"}, "middle": {"bottom"}, "bottom": set()}


def test_an_arrow_stays_where_the_longer_way_is_through_a_cycle() -> None:
    found = {"top": {"one", "other"}, "one": {"other"}, "other": {"one"}}
    assert reduced(found) == found
