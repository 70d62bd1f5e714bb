"""The page on a wholesaler's phone, for where replies by SMS are not possible.

Whoever has the link may answer for its message; it was sent to one phone, is signed, and ends.
Looking at it does nothing, because phones and carriers open links by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo
from itertools import groupby
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from alerts.answers.intake import Intake, TooManyAnswers
from alerts.answers.links import PATH, LinkRefused, Links
from alerts.answers.reading import Reply, read
from alerts.answers.sent import SentMessage
from alerts.message.compose import EmptyShelf
from alerts.message.directory import Directory
from infra.webhook.http import form_of
from infra.webhook.pages import page
from infra.webhook.text import WORDS
from schemas.errors import BrokerError


class AnswerPage:
    """The page of all links of one key; names come from `directory` if there is one.

    `address` is where phones reach this server.
    """

    def __init__(
        self,
        intake: Intake,
        links: Links,
        directory: Directory | None,
        *,
        address: str,
        zone: tzinfo,
    ) -> None:
        self._intake = intake
        self._links = links
        self._directory = directory
        public = urlsplit(address)
        self._origin = f"{public.scheme}://{public.netloc}".lower()
        self._base = public.path.rstrip("/")
        self._zone = zone

    def routes(self) -> list[Route]:
        """What to serve."""
        return [
            Route(PATH + "{token}", self.show, methods=["GET"]),
            Route(PATH + "{token}", self.take, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """The message, what was answered last, and three buttons."""
        try:
            message = self._message(request)
        except LinkRefused as refused:
            return self._refused(request, refused)
        return self._page(message)

    async def take(self, request: Request) -> Response:
        """One of the buttons was pressed."""
        self._check_origin(request)
        form = dict(await form_of(request))
        try:
            message = self._message(request)
        except LinkRefused as refused:
            return self._refused(request, refused)
        answer = self._answer(form)
        if answer is None:
            return self._page(message, "when", 422)
        try:
            await self._intake.answer(message, answer)
        except TooManyAnswers:
            return self._page(message, "too_many", 429)
        except (BrokerError, OSError):
            return self._page(message, "not_now", 503)
        return RedirectResponse(f"{self._base}{PATH}{request.path_params['token']}", 303)

    def _message(self, request: Request) -> SentMessage:
        def holder(message_id: str) -> str | None:
            message = self._intake.sent.message(message_id)
            return message.wholesaler_id if message is not None else None

        token, now = request.path_params["token"], self._intake.clock.now()
        found = self._intake.sent.message(self._links.open(token, now, holder))
        assert found is not None
        return found

    def _check_origin(self, request: Request) -> None:
        """Another site's form may not answer, should it ever come by a link."""
        site = request.headers.get("sec-fetch-site", "same-origin")
        origin = request.headers.get("origin", self._origin).lower()
        if site != "same-origin" or origin != self._origin:
            raise HTTPException(403, "answers are given on our own page")

    def _answer(self, form: dict[str, str]) -> Reply | None:
        pressed = form.get("answer", "")
        if pressed in ("acknowledged", "cannot"):
            return Reply("acknowledged" if pressed == "acknowledged" else "cannot")
        if pressed == "delivering":
            # The same words as by SMS: "15:00" is the next time it is that late.
            meant = read(form.get("by", ""), now=self._intake.clock.now(), zone=self._zone)
            return meant if meant.kind == "delivering" and meant.by is not None else None
        raise HTTPException(400, "none of the answers")

    def _page(self, message: SentMessage, trouble: str = "", status: int = 200) -> Response:
        language = self._language(message)
        words = WORDS[language]
        _, last = self._intake.inbox.answers_to(message.message_id)
        shelves = [self._shelf(incident) for incident in message.incidents]
        return page(
            "answer.html.j2",
            status,
            words=words,
            language=language,
            text=message.body if not shelves else "",
            places=_places(shelves, self._zone),
            said=self._said(last, words) if last is not None else "",
            trouble=words[trouble] if trouble else "",
            soon=f"{datetime.fromtimestamp(self._intake.clock.now() / 1_000, self._zone):%H:%M}",
        )

    def _said(self, answer: Reply, words: dict[str, str]) -> str:
        if answer.by is None:
            return words[answer.kind]
        by = datetime.fromtimestamp(answer.by / 1_000, self._zone)
        return words["delivering_by"].format(by=f"{by:%m-%d %H:%M}")

    def _shelf(self, incident: Any) -> EmptyShelf:
        if self._directory is not None:
            return self._directory.shelf(incident)
        return EmptyShelf(incident.outlet_id, "", "", incident.sku, incident.opened_at)

    def _language(self, message: SentMessage) -> str:
        spoken = message.language
        if not spoken and self._directory is not None:
            known = self._directory.wholesaler(message.wholesaler_id)
            spoken = known.language if known is not None else ""
        spoken = spoken.lower().replace("_", "-").partition("-")[0]
        return spoken if spoken in WORDS else "en"

    def _refused(self, request: Request, refused: LinkRefused) -> Response:
        """Nobody knows whose language an unknown link has but the phone."""
        wanted = request.headers.get("accept-language", "")
        words = WORDS["zh" if wanted.lower().startswith("zh") else "en"]
        expired = refused.expired
        text = words["expired" if expired else "no_link"]
        return page("gone.html.j2", 410 if expired else 404, words=words, text=text)


def _places(
    shelves: Sequence[EmptyShelf], zone: tzinfo
) -> list[tuple[str, list[tuple[str, str, str]]]]:
    """(territory, [(outlet, article, since)]) in the order a van would drive."""
    rows = sorted(
        (shelf.territory, shelf.outlet or shelf.outlet_id, shelf.sku, shelf.opened_at)
        for shelf in shelves
    )
    return [
        (
            territory,
            [
                (outlet, sku, f"{datetime.fromtimestamp(at / 1_000, zone):%m-%d %H:%M}")
                for _, outlet, sku, at in group
            ],
        )
        for territory, group in groupby(rows, key=lambda row: row[0])
    ]
