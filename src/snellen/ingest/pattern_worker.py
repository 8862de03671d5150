"""Searches a regular expression in names, in a process of its own that `patterns` ends when it takes too long.

Run as a file, with nothing but Python's own library. It reads JSON from standard input (`pattern`, `group`, `names`)
and answers with a JSON list: the group's text in each name, or an empty one.
"""

from __future__ import annotations

import json
import re
import sys
import warnings


def main() -> None:
    """Answer one question."""
    warnings.simplefilter("ignore")
    question = json.load(sys.stdin)
    pattern, group = re.compile(question["pattern"]), question["group"]
    matches = (pattern.search(name) for name in question["names"])
    json.dump(["" if match is None else match.group(group) or "" for match in matches], sys.stdout)


if __name__ == "__main__":
    main()
