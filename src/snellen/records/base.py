"""The base of all records: frozen, strict about unknown keys, written as JSON."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticSerializationError


class Record(BaseModel):
    """Inert data. It knows no file and builds nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    def to_json(self) -> str:
        """Indented JSON with a final newline."""
        try:
            return self.model_dump_json(indent=2) + "\n"
        except PydanticSerializationError:
            # a file name that is no UTF-8 holds halves of letters: they leave as the escapes that JSON has for them
            return json.dumps(self.model_dump(), indent=2) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return self.model_dump(mode="json")
