"""The contacts so far, in sentences."""

from dunning_pipeline.explaining.explanation import Said, Step, said, step
from dunning_pipeline.explaining.facts import Contact, Facts
from dunning_pipeline.explaining.texts import counted, day

MOST_CONTACTS = 10


def contacts_so_far(facts: Facts) -> Step:
    """Contacts up to the day, the newest first."""
    if not facts.contacts:
        return step("Contacts so far", [said("None.", "5.2")])
    told = [_contact(facts, contact) for contact in facts.contacts[:MOST_CONTACTS]]
    more = len(facts.contacts) - len(told)
    return step("Contacts so far", told + ([said(f"And {counted(more, 'earlier one')}.", "5.2")] if more else []))


def _contact(facts: Facts, contact: Contact) -> Said:
    rules = {"accepted": ["9.3"], "recorded": ["5.2"], "rejected": ["6.5"]}.get(contact.kind, ["9.3"])
    return said(f"{day(contact.contact_on)}: {described(contact)}; {_became(facts, contact)}.", *rules)


def described(contact: Contact) -> str:
    """What a contact was: `reminder_2 of standard about invoice INV-7`."""
    about = f" about invoice {contact.number or contact.invoice_id}" if contact.invoice_id else ""
    named = f"{contact.action} of {contact.workflow}" if contact.action and contact.workflow else None
    if contact.kind != "recorded":
        return f"{named}{about}"
    how = contact.channel or "contact"
    return f"{how}{about}{f', which executes {named}' if named and contact.invoice_id else ''}"


def _became(facts: Facts, contact: Contact) -> str:
    why = contact.error_detail or "no reason given"
    lifted = ", lifted by `dunning retry`" if contact.lifted else ""
    became = {
        "accepted": "accepted by Klaviyo",
        "unknown": "whether Klaviyo got it is unknown",
        "rejected": f"rejected by Klaviyo ({why}){lifted}; reminder {contact.reminder_id}",
        "not_delivered": "it did not reach Klaviyo",
        "recorded": "recorded by hand",
    }[contact.kind]
    today = contact.kind != "recorded" and contact.contact_on == facts.day
    return f"{became} (on the day itself)" if today else became
