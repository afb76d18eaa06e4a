"""The e-mail templates for Klaviyo, rendered by Django over events that the pipeline made."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from klaviyo_mail import CASES, LISTED, ORDERS, POLICY, UNKNOWN, Event, invoice_events, order_events, rendered

from dunning_pipeline.policy import Klaviyo
from dunning_pipeline.templates import LANGUAGES, NAMES, template_files, texts_of

FOLDER = Path(__file__).parents[1] / "dunning_pipeline" / "templates"
FILES = template_files()
PAGES = [name for name in FILES if name.endswith(".html")]
WITHOUT_CONTENT = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta"}
GMAIL_CLIPS_AT = 102_000
TIMES = "\N{MULTIPLICATION SIGN}"

MAILS = [
    *(("invoice-reminder", case, language) for case in CASES for language in LANGUAGES),
    *(("order-balance", case, language) for case in ORDERS for language in LANGUAGES),
]
every_mail = pytest.mark.parametrize(("name", "case", "language"), MAILS)
every_language = pytest.mark.parametrize("language", LANGUAGES)


@pytest.fixture(scope="module")
def reminders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Event]:
    return invoice_events(tmp_path_factory.mktemp("business"))


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Event]:
    return order_events(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def event(reminders: dict[str, Event], orders: dict[str, Event], name: str, case: str, language: str) -> Event:
    return (reminders if name == "invoice-reminder" else orders)[f"{case} {language}"]


def text_of(html: str) -> str:
    """What is read in a mail, with single spaces."""
    return " ".join(unescape(re.sub(r"<style.*?</style>|<!--.*?-->|<[^>]+>", " ", html, flags=re.S)).split())


def reminder_text(reminders: dict[str, Event], case: str, language: str) -> str:
    return text_of(rendered(f"invoice-reminder.{language}.html", reminders[f"{case} {language}"]))


def order_mail(orders: dict[str, Event], case: str, language: str) -> str:
    return rendered(f"order-balance.{language}.html", orders[f"{case} {language}"])


def said(language: str, name: str, key: str) -> str:
    """The longest piece of a text that has no variable in it."""
    return max(pieces(texts_of(language)[name][key]), key=len)


def pieces(text: str) -> list[str]:
    return [" ".join(piece.split()) for piece in re.split(r"\{\{.*?\}\}|\{%.*?%\}|<[^>]+>", text)]


def one_line(text: str) -> str:
    return " ".join(text.split())


class Balance(HTMLParser):
    """Fails at an element that is closed in the wrong place; `open` has those that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in WITHOUT_CONTENT:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()


def test_the_files_are_what_layouts_and_texts_make() -> None:
    assert {path.name: path.read_text("utf-8") for path in FOLDER.iterdir() if path.name in FILES} == FILES
    assert len(FILES) == 2 * len(NAMES) * len(LANGUAGES)


def test_every_language_has_the_same_texts() -> None:
    keys = [[(part, *texts) for part, texts in texts_of(language).items()] for language in LANGUAGES]
    assert keys == [keys[0]] * len(LANGUAGES)


def test_no_text_is_left_untranslated() -> None:
    for part, texts in texts_of(LANGUAGES[0]).items():
        for key in texts:
            assert len({texts_of(language)[part][key] for language in LANGUAGES}) == len(LANGUAGES), (part, key)


@pytest.mark.parametrize("file_name", FILES)
def test_templates_use_nothing_that_klaviyo_lacks(file_name: str) -> None:
    """Its editors support Django's built-in filters, conditions and loops; `unsubscribe_link` is its own."""
    content = FILES[file_name]
    tags = set(re.findall(r"\{%\s*(\w+)", content))
    assert tags <= {"if", "elif", "else", "endif", "for", "endfor", "unsubscribe_link"}
    assert set(re.findall(r"\|(\w+)", "".join(re.findall(r"\{[{%].*?[%}]\}", content)))) <= {"escape"}
    assert "[[" not in content


@every_language
def test_every_property_that_a_template_names_is_in_the_event(
    reminders: dict[str, Event], orders: dict[str, Event], language: str
) -> None:
    """Django says nothing of an unknown name in a condition."""
    reminder, order = reminders[f"several {language}"], orders[f"first {language}"]
    parts = {
        "invoice": reminder["invoices"][0],
        "total": reminder["totals_by_currency"][0],
        "change": order["changes"][0],
    }
    for file_name, content in FILES.items():
        known = parts | {"event": reminder if file_name.startswith("invoice-reminder") else order}
        named = re.findall(r"\b(event|invoice|total|change)\.(\w+)", "".join(re.findall(r"\{[{%].*?[%}]\}", content)))
        assert named
        assert not [(owner, member) for owner, member in named if member not in known[owner]]


@every_mail
def test_a_mail_has_no_unknown_or_empty_value(name: str, language: str, event: Event) -> None:
    for file_name in (f"{name}.{language}.html", f"{name}.{language}.subject.txt"):
        mail = rendered(file_name, event)
        assert UNKNOWN not in mail
        assert not re.search(r"\bNone\b|\{[{%]|[%}]\}", mail)


@every_mail
def test_a_mail_is_well_formed(name: str, language: str, event: Event) -> None:
    parser = Balance()
    parser.feed(rendered(f"{name}.{language}.html", event))
    parser.close()
    assert parser.open == []


@every_mail
def test_a_mail_speaks_one_language(name: str, language: str, event: Event) -> None:
    text = text_of(rendered(f"{name}.{language}.html", event))
    own = " ".join(one_line(piece) for part in texts_of(language).values() for piece in part.values())
    for other in set(LANGUAGES) - {language}:
        foreign = {piece for part in texts_of(other).values() for whole in part.values() for piece in pieces(whole)}
        assert not [piece for piece in foreign if len(piece) > 5 and piece in text and piece not in own]


@every_mail
def test_values_that_klaviyo_takes_for_never_set_may_be_missing(name: str, language: str, event: Event) -> None:
    present = {key: value for key, value in event.items() if value}
    for file_name in (f"{name}.{language}.html", f"{name}.{language}.subject.txt"):
        assert rendered(file_name, present, unknown="") == rendered(file_name, event)


@every_mail
def test_data_are_no_markup_whether_or_not_the_engine_escapes_by_itself(name: str, language: str, event: Event) -> None:
    html = rendered(f"{name}.{language}.html", event)
    assert html == rendered(f"{name}.{language}.html", event, autoescape=False)
    assert "<b>" not in html
    assert "<&>" not in html
    assert not event["customer_name"] or event["customer_name"] in text_of(html)


@every_mail
def test_a_subject_is_one_short_line(name: str, language: str, event: Event) -> None:
    subject = rendered(f"{name}.{language}.subject.txt", event, autoescape=False)
    assert subject.count("\n") == 1
    assert 20 < len(subject) < 90
    assert (event.get("order_name") or event["carrying_invoice_number"]) in subject


@every_language
@pytest.mark.parametrize("case", CASES)
def test_a_reminder_shows_its_invoices_and_totals(reminders: dict[str, Event], case: str, language: str) -> None:
    event, text = reminders[f"{case} {language}"], reminder_text(reminders, case, language)
    shown = ("number", "issued_on_display", "due_on_display", "outstanding_display", "total_display")
    for invoice in event["invoices"]:
        assert not [invoice[key] for key in shown if one_line(invoice[key]) not in text]
    for total in event["totals_by_currency"]:
        assert one_line(total["outstanding_display"]) in text


@every_language
def test_overdue_and_other_amounts_are_told_apart(reminders: dict[str, Event], language: str) -> None:
    (total,) = reminders[f"several {language}"]["totals_by_currency"]
    text = reminder_text(reminders, "several", language)
    for key in ("overdue", "due"):
        assert f"{texts_of(language)['invoice-reminder'][f'total_{key}']} {one_line(total[f'{key}_display'])}" in text


@every_language
@pytest.mark.parametrize("case", CASES)
def test_the_tone_is_another_before_the_due_date(reminders: dict[str, Event], case: str, language: str) -> None:
    text = reminder_text(reminders, case, language)
    is_overdue = case not in {"upcoming", "today"}
    assert (reminders[f"{case} {language}"]["days_since_due"] > 0) == is_overdue
    assert [said(language, "invoice-reminder", key) in text for key in ("overdue", "please_pay", "due")] == [
        is_overdue,
        is_overdue,
        not is_overdue,
    ]


@every_language
@pytest.mark.parametrize("case", CASES)
def test_only_a_broken_promise_is_told(reminders: dict[str, Event], case: str, language: str) -> None:
    told = said(language, "invoice-reminder", "broken_promise") in reminder_text(reminders, case, language)
    assert told == (case == "promised")


@every_language
def test_days_overdue_are_counted(reminders: dict[str, Event], language: str) -> None:
    texts = texts_of(language)["invoice-reminder"]
    assert texts["one_day_overdue"] in reminder_text(reminders, "yesterday", language)
    many = texts["days_overdue"].replace("{{ invoice.days_overdue }}", "40")
    assert many in reminder_text(reminders, "several", language)
    assert texts["not_overdue"] in reminder_text(reminders, "today", language)


@every_language
def test_invoices_left_out_are_counted(reminders: dict[str, Event], language: str) -> None:
    texts = texts_of(language)["invoice-reminder"]
    left_out = len(CASES["many left out"]) - LISTED
    many = texts["omitted"].replace("{{ event.invoices_omitted }}", str(left_out))
    assert f"{texts['one_omitted']} " in reminder_text(reminders, "one left out", language)
    assert many in reminder_text(reminders, "many left out", language)
    assert said(language, "invoice-reminder", "omitted") not in reminder_text(reminders, "several", language)


@every_language
def test_what_was_paid_of_an_invoice_is_seen(reminders: dict[str, Event], language: str) -> None:
    for case, is_partly_paid in (("partly paid", True), ("yesterday", False)):
        (invoice,) = reminders[f"{case} {language}"]["invoices"]
        total, outstanding = one_line(invoice["total_display"]), one_line(invoice["outstanding_display"])
        of_total = texts_of(language)["invoice-reminder"]["of_total"].replace("{{ invoice.total_display }}", total)
        assert (f"{outstanding} {of_total}" in reminder_text(reminders, case, language)) == is_partly_paid


@every_language
def test_a_reminder_links_to_where_invoices_are_paid(reminders: dict[str, Event], language: str) -> None:
    for case in CASES:
        event = reminders[f"{case} {language}"]
        links = links_of(rendered(f"invoice-reminder.{language}.html", event))
        pays = [invoice["payment_url"] for invoice in event["invoices"] if invoice["payment_url"]]
        assert links == [*([event["payment_url"]] if pays else []), *pays, "https://klaviyo.test/unsubscribe"]


def links_of(html: str) -> list[str]:
    return [unescape(link) for link in re.findall(r'<a href="([^"]*)"', html)]


@every_language
def test_an_order_mail_shows_what_changed_and_what_is_left(orders: dict[str, Event], language: str) -> None:
    event, text = orders[f"first {language}"], text_of(order_mail(orders, "first", language))
    assert [one_line(event[f"{key}_display"]) in text for key in ("total", "paid", "outstanding")] == [True] * 3
    first, second = event["changes"]
    assert f"1 {TIMES} {first['title']} {one_line(first['amount_display'])}" in text
    assert f"{TIMES} {second['title']}" not in text
    assert f"{second['title']} {one_line(second['amount_display'])}" in text


@every_language
def test_an_order_mail_says_that_it_comes_again(orders: dict[str, Event], language: str) -> None:
    texts = {key: said(language, "order-balance", key) for key in ("first", "again")}
    for case, other in (("first", "again"), ("again", "first")):
        text = text_of(order_mail(orders, case, language))
        assert texts[case] in text
        assert texts[other] not in text


@every_language
def test_an_order_mail_links_to_payment_and_order_where_it_can(orders: dict[str, Event], language: str) -> None:
    pay, look, unsubscribe = ORDERS["first"].pay_url, ORDERS["first"].status_url, "https://klaviyo.test/unsubscribe"
    found = {
        case: links_of(order_mail(orders, case, language)) for case in ("first", "not payable", "without page", "bare")
    }
    assert found == {
        "first": [pay, look, unsubscribe],
        "not payable": [look, unsubscribe],
        "without page": [pay, unsubscribe],
        "bare": [unsubscribe],
    }


@every_language
def test_changes_left_out_are_counted(orders: dict[str, Event], language: str) -> None:
    texts = texts_of(language)["order-balance"]
    many = texts["omitted"].replace("{{ event.changes_omitted }}", "7")
    assert f"{texts['one_omitted']} " in text_of(order_mail(orders, "one left out", language))
    assert many in text_of(order_mail(orders, "many left out", language))
    assert said(language, "order-balance", "omitted") not in text_of(order_mail(orders, "first", language))


def test_a_mail_with_as_many_invoices_as_are_listed_by_default_is_not_clipped(tmp_path: Path) -> None:
    policy = re.sub("^klaviyo:.*\n", "", POLICY, flags=re.M)
    overdue = [(-n, "1234.50", "EUR") for n in range(1, Klaviyo().invoices_listed + 9)]
    events = invoice_events(tmp_path, {"long": overdue}, policy)
    for language in LANGUAGES:
        event = events[f"long {language}"]
        assert (len(event["invoices"]), event["invoices_omitted"]) == (Klaviyo().invoices_listed, 8)
        assert len(rendered(f"invoice-reminder.{language}.html", event).encode()) < GMAIL_CLIPS_AT
