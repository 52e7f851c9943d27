"""What GitHub remembers of the webhooks it sent, for an App's hook and a repository's alike."""

import base64
import binascii

from starlette.responses import Response

from klepaas.testing.github.hooks import Delivery, Hook
from klepaas.testing.github.routing import Answer, Asked, answer, not_found, url_with


def listed(asked: Asked, hook: Hook) -> Response:
    """Newest first, page by page: the `Link` header names the cursor of the next page, which nobody can make up."""
    sent = _of(asked, hook)[::-1]
    if wanted := asked.query("status"):
        sent = [delivery for delivery in sent if (delivery.status == "OK") == (wanted == "success")]
    if cursor := asked.query("cursor"):
        last = _last_of(cursor)
        sent = [delivery for delivery in sent if delivery.id < last]
    size = asked.query("per_page")
    per_page = min(100, max(1, int(size))) if size.isascii() and size.isdigit() else 30
    page = sent[:per_page]
    more = len(sent) > per_page
    next_url = url_with(asked, per_page=per_page, cursor=_cursor(page[-1].id)) if more else ""
    headers = {"link": f'<{next_url}>; rel="next"'} if more else {}
    return answer([delivery.json(whole=False) for delivery in page], headers=headers)


def delivery(asked: Asked, hook: Hook) -> Delivery:
    """The one the path names. Errors: Answer 404."""
    number = asked.number("delivery")
    for sent in _of(asked, hook):
        if sent.id == number:
            return sent
    raise not_found()


def attempt(asked: Asked, hook: Hook) -> Response:
    """Send it once more."""
    asked.world.postman.redeliver(delivery(asked, hook))
    return answer({}, 202)


def _of(asked: Asked, hook: Hook) -> list[Delivery]:
    return [sent for sent in asked.world.postman.sent if sent.hook is hook]


def _cursor(number: int) -> str:
    return "v1_" + base64.urlsafe_b64encode(str(number).encode()).decode().rstrip("=")


def _last_of(cursor: str) -> int:
    try:
        text = cursor.removeprefix("v1_")
        return int(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, binascii.Error):
        raise Answer(422, "Invalid cursor") from None
