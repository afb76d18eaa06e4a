"""E-mail addresses and telephone numbers made unreadable, for whatever leaves warehouse and payload: logs, errors, UI.

What may be shown at all is decided where it is shown.
"""

import re

_ADDRESS = re.compile(r"([^\s@|\"<>(),;]?)[^\s@|\"<>(),;]*@")
_PHONE = re.compile(r"\+\d{4,12}(\d{2})\b")


def masked(text: str) -> str:
    """`text` with e-mail addresses and telephone numbers made unreadable: `j***@shop.test`, `+***42`."""
    return _PHONE.sub(r"+***\1", _ADDRESS.sub(r"\1***@", text))


def masked_value(column: str, text: str) -> str:
    """The text of a column; of columns that hold addresses nothing readable is left, whatever form they are in."""
    if column == "phone":
        return f"***{text[-2:]}" if text else ""
    return "***" if column == "email" and text and "@" not in text else masked(text)
