"""How pages are made from templates: every value is escaped, because class and file names are a stranger's text.

This room knows Jinja. It must not know records, figures or what a page says.
"""

from __future__ import annotations

import re
from functools import cache, partial

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from snellen.core.letters import reveal, show_class, show_name
from snellen.evaluation import distilled_table, number_tables, tables, wording

_CODE = re.compile(r"`([^`\n]+)`")
_OPTION = re.compile(r"(?<![\w-])(--[a-z][a-z-]*)")
_SHORT_CODE = 32


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
        "as_class": show_class,
        "prose": mark_code,
    }
    environment.globals |= {
        "build": tables,
        "distilled": distilled_table,
        "numbers": number_tables,
        "count": wording.format_count,
        "explain_patients": wording.explain_patients,
    }
    return environment


def mark_code(text: str) -> Markup:
    """Escaped prose, with `what stands so` as code and no option broken after its hyphens."""
    found = Markup("")
    for at, part in enumerate(_CODE.split(reveal(text))):
        if at % 2:
            short = ' class="nowrap"' if len(part) <= _SHORT_CODE else ""
            found += Markup(f"<code{short}>") + escape(part) + Markup("</code>")  # noqa: S704  # no part of the text
        else:
            found += Markup(_OPTION.sub(r'<span class="nowrap">\1</span>', str(escape(part))))  # noqa: S704  # escaped
    return found


def _finish(value: object) -> object:
    """Unseen letters are shown; markup is already safe and stays as it is."""
    return reveal(value) if isinstance(value, str) and not isinstance(value, Markup) else value
