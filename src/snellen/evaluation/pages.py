"""How pages are made from templates: every value is escaped, because class and file names are a stranger's text.

This room knows Jinja. It must not know records, figures or what a page says.
"""

from __future__ import annotations

from functools import cache, partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from snellen.core.letters import reveal, show_name
from snellen.evaluation import distilled_table, number_tables, tables, wording


@cache
def open_environment() -> Environment:
    """The templates of this package."""
    environment = Environment(
        loader=PackageLoader("snellen.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finish,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": wording.format_number,
        "digits": partial(wording.format_number, digits=4),
        "two_digits": partial(wording.format_number, digits=2),
        "interval": wording.format_interval,
        "percent": wording.format_percent,
        "split_name": wording.name_split,
        "as_name": show_name,
    }
    environment.globals |= {
        "build": tables,
        "distilled": distilled_table,
        "numbers": number_tables,
        "count": wording.format_count,
        "explain_patients": wording.explain_patients,
    }
    return environment


def _finish(value: object) -> object:
    """Unseen letters are shown; markup is already safe and stays as it is."""
    return reveal(value) if isinstance(value, str) and not isinstance(value, Markup) else value
