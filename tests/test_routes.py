"""The lookup of routes by the shape of a path: Werkzeug would match the same rule, with the same values."""

from __future__ import annotations

from itertools import product

import pytest
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, RequestRedirect, Rule

from app import create_app
from web.fast.routes import NO_ROUTES, find_routes, match

pytestmark = pytest.mark.sqlite

ID, OTHER_ID = "123e4567-e89b-12d3-a456-426614174000", "123E4567-E89B-12D3-A456-426614174001"
SEGMENTS = ["upload", "<>", ID, OTHER_ID, "-" * 36, f"{ID}\n", f"{ID}0", "track", "a", ""]
PATHS = ["/" + "/".join(parts) for count in range(1, 5) for parts in product(SEGMENTS, repeat=count)]
METHODS = ["GET", "HEAD", "POST", "OPTIONS", "DELETE", "BREW"]


def werkzeug_match(url_map: Map, method: str, path: str) -> object:
    """Return what Werkzeug matches, or the class of its error."""
    try:
        return url_map.bind("localhost").match(path, method, return_rule=True)
    except (HTTPException, RequestRedirect) as e:
        return type(e)


def looked_up_rules(url_map: Map) -> set[str]:
    """Assert that the lookup of all paths matches as Werkzeug does, and return the rules that it matched."""
    routes, rules = find_routes(url_map), set[str]()
    for method, path in product(METHODS, PATHS):
        matched = match(routes, method, path)
        if matched is not None:
            rules.add(matched[0].rule)
            assert matched == werkzeug_match(url_map, method, path), (method, path)
    return rules


def test_rules_of_the_application(settings):
    """The routes of the API are looked up, those with ids in their paths among them."""
    url_map = create_app(settings).url_map
    assert looked_up_rules(url_map) == {"/"}
    matched = match(find_routes(url_map), "POST", f"/v1/upload/{ID}/track")
    assert matched is not None
    assert (matched[0].endpoint, matched[1]) == ("loadbay.create_track", {"upload_session_id": ID})


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (["/upload/<a>", "/upload/track"], []),
        (["/upload/<a>", "/upload/<a>/track", "/upload/<b>/track/<c>"], [0, 1, 2]),
        (["/<a>/track", "/upload/<b>"], []),
        (["/<path:a>", "/upload/<b>"], []),
        (["/upload/<path:a>", "/track/<b>"], [1]),
        (["/<uuid:a>", "/<b>"], []),
        (["/upload/x<a>", "/upload/<b>"], []),
        (["/upload/<a>/", "/upload/<a>"], [0, 1]),
        (["/upload/<string(length=2):a>/track", "/upload/<b>/a/<c>"], []),
        (["/<a>", "/<a>/<b>", "/<a>/<b>/<c>", "/"], [1, 2]),
        ([f"/upload/{ID}", "/track/<a>"], [0, 1]),
    ],
)
def test_rules_that_overlap_are_left_to_werkzeug(rules, expected):
    """A rule is looked up only if no other one can match the same path."""
    url_map = Map([Rule(rule, endpoint=rule, methods=["GET"]) for rule in rules])
    assert looked_up_rules(url_map) == {rules[number] for number in expected}


def test_other_maps_are_left_to_werkzeug():
    """Hosts, rules with defaults and other default converters are not looked up."""
    rule = Rule("/upload/<a>", endpoint="a", methods=["GET"])
    assert find_routes(Map([rule.empty()], host_matching=True)) == NO_ROUTES
    converters = Map.default_converters
    assert find_routes(Map([rule.empty()], converters={"default": converters["int"]})) == NO_ROUTES
    assert find_routes(Map([Rule("/upload", endpoint="a", defaults={"a": ID}, methods=["GET"])])) == NO_ROUTES
