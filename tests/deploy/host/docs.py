"""The host's pages."""

from __future__ import annotations

from flask import Blueprint, render_template

blueprint = Blueprint("docs", __name__)


@blueprint.get("/about")
def about() -> str:
    """Return a page whose template has the name of one of Loadbay's."""
    return render_template("docs.html")
