"""E-mail templates in Klaviyo's Django-style syntax, each a whole file, because Klaviyo knows no includes.

Each file is a layout of `layouts/` filled with the texts of a language in `texts/`. The pipeline itself needs none.
"""

import re
from pathlib import Path

import yaml

NAMES = ("invoice-reminder", "order-balance")
LANGUAGES = ("en", "de", "fr")

_FOLDER = Path(__file__).parent
_PLACE = re.compile(r"\[\[([\w.]+)]]")


def write_templates() -> None:
    """Writes every file that `template_files` makes beside this module."""
    for file_name, content in template_files().items():
        (_FOLDER / file_name).write_text(content, encoding="utf-8")


def template_files() -> dict[str, str]:
    """What each file is to hold: `<name>.<language>.html`, and the subject line in `<name>.<language>.subject.txt`.

    Raises:
        KeyError: a text that a layout names is missing in a language.
    """
    made = {}
    for language in LANGUAGES:
        texts = texts_of(language)
        for name in NAMES:
            filling = _styles() | texts["common"] | texts[name] | {"language": language}
            page = _layout("page").replace("[[content]]", _layout(name).rstrip())
            made[f"{name}.{language}.html"] = _filled(page, filling)
            made[f"{name}.{language}.subject.txt"] = filling["subject"] + "\n"
    return made


def texts_of(language: str) -> dict[str, dict[str, str]]:
    """The texts of a language: those common to all templates, and those of each, by name."""
    texts: dict[str, dict[str, str]] = yaml.safe_load((_FOLDER / "texts" / f"{language}.yaml").read_text("utf-8"))
    return texts


def _styles() -> dict[str, str]:
    styles = yaml.safe_load((_FOLDER / "layouts" / "styles.yaml").read_text("utf-8"))
    return {f"style.{name}": style for name, style in styles.items()}


def _layout(name: str) -> str:
    return (_FOLDER / "layouts" / f"{name}.html").read_text("utf-8")


def _filled(layout: str, filling: dict[str, str]) -> str:
    return _PLACE.sub(lambda place: filling[place[1]], layout)
