"""`zerostock webhook`: the one part that listens to the outside world.

It takes delivery statuses and replies from providers, and answers from the page on the phones, and
puts them on Kafka for the alerts worker. It is a program of its own, and not part of `serve`,
because its address is public: nothing that managers see may be reached through it. Its inbox
is under --data, beside the record of what was sent, so it runs on the machine of the alerts worker.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import start_http_server
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from alerts.answers.inbox import Inbox
from alerts.answers.intake import Intake
from alerts.answers.links import Links
from alerts.answers.sent import Sent
from alerts.delivery.refused_numbers import RefusedNumbers
from alerts.message.directory import Directory, ReferenceDirectory
from alerts.message.phones import contacts
from alerts.senders.table import (
    HttpEntry,
    RouteEntry,
    RouteTable,
    SmppEntry,
    TwilioEntry,
    load_table,
)
from infra.http_server import serve_http
from infra.settings import Settings
from infra.webhook.answer_page import AnswerPage
from infra.webhook.gateway import GatewayEndpoint
from infra.webhook.http import web_app
from infra.webhook.kafka_answers import KafkaAnswers
from infra.webhook.smpp import SmppReceiver
from infra.webhook.twilio import TwilioEndpoints
from infra.wiring import kafka_security, local_receipts, reference_of, sms_folder, zone_of
from pipelines.stream import metrics
from schemas.errors import BrokerError, SettingsError
from schemas.reference import Reference

log = logging.getLogger(__name__)

#: Seconds between two tries to publish what Kafka did not take.
TRY_AGAIN: Final = 5.0


def run_webhook(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM. Raises `SettingsError` for what is missing."""
    folder = sms_folder(settings)
    address = settings.webhook_url or ""
    table = load_table(settings.routes) if settings.routes is not None else None
    if not address and not (table is not None and _receivers(table)):
        raise SettingsError(
            "set ZEROSTOCK_WEBHOOK_URL to the public https://host of the webhook: signatures and "
            "links are made for that address"
        )
    reference = reference_of(settings) if settings.reference is not None else None
    kafka = KafkaAnswers(settings.broker, settings.partitions, kafka_security(settings))
    intake = Intake(
        Sent(local_receipts(settings)),
        Inbox(folder / "answers.log"),
        RefusedNumbers(folder / "refused-numbers.log"),
        kafka.publish,
        zone=zone_of(settings),
        owners=_owners(reference),
    )
    directory = ReferenceDirectory(reference) if reference is not None else None
    app = application(intake, settings, address, directory, kafka, table)
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, settings.metrics_host, metrics.REGISTRY)
    # The address that Twilio signed is a setting; what a proxy claims is not believed.
    serve_http(app, settings.webhook_host, settings.webhook_port)


def application(
    intake: Intake,
    settings: Settings,
    address: str,
    directory: Directory | None,
    kafka: KafkaAnswers,
    table: RouteTable | None = None,
) -> Starlette:
    """The application: what the settings and the table of routes allow, and /healthz.

    Raises `SettingsError` when they allow nothing.
    """
    entries = table.routes if table is not None else ()
    routes = []
    if address and (account := _twilio_account(settings, entries)) is not None:
        auth_token, account_sid = account
        routes += TwilioEndpoints(
            intake, auth_token=auth_token, account_sid=account_sid, address=address
        ).routes()
    for entry in entries:
        if isinstance(entry, HttpEntry) and entry.callback is not None:
            routes.append(GatewayEndpoint(intake, entry, entry.callback).route())
    receivers = [SmppReceiver(intake, entry) for entry in _receivers(table)]
    if address and settings.link_key is not None:
        key = settings.link_key.get_secret_value()
        links = Links(key, address, settings.link_lifetime)
        routes += AnswerPage(
            intake, links, directory, address=address, zone=zone_of(settings)
        ).routes()
    if not routes and not receivers:
        raise SettingsError(
            "there is nothing to serve: set ZEROSTOCK_TWILIO_AUTH_TOKEN for what Twilio calls, "
            "ZEROSTOCK_LINK_KEY for the page on the phones, or give a table of --routes"
        )

    async def healthz(_: Request) -> Response:
        waiting = len(intake.inbox.pending())
        if waiting or not kafka.connected:
            return PlainTextResponse(f"Kafka does not answer; {waiting} answers wait\n", 503)
        return PlainTextResponse("ok\n")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_keep_forwarding(intake, kafka))]
        tasks += [asyncio.create_task(receiver.run()) for receiver in receivers]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await kafka.close()

    return web_app([Route("/healthz", healthz, methods=["GET"]), *routes], lifespan)


def _receivers(table: RouteTable | None) -> list[SmppEntry]:
    """The accounts at which answers are taken."""
    entries = table.routes if table is not None else ()
    return [entry for entry in entries if isinstance(entry, SmppEntry) and entry.receive]


def _twilio_account(settings: Settings, entries: Sequence[RouteEntry]) -> tuple[str, str] | None:
    """The token and the id of the account that Twilio calls for."""
    for entry in entries:
        if isinstance(entry, TwilioEntry) and entry.auth_token is not None:
            return entry.auth_token.get_secret_value(), entry.account_sid or ""
    if settings.twilio_auth_token is None:
        return None
    return settings.twilio_auth_token.get_secret_value(), settings.twilio_account_sid or ""


async def _keep_forwarding(intake: Intake, kafka: KafkaAnswers) -> None:
    """Publish what Kafka has not taken, now and whenever it may have come back."""
    while True:
        try:
            await kafka.connect()
            forwarded = await intake.forward_pending()
            if forwarded:
                log.warning("%d answers that had waited are on Kafka now", forwarded)
        except BrokerError as error:
            log.warning("answers wait: %s", error)
        except OSError:
            log.exception("the inbox cannot be read")
        await asyncio.sleep(TRY_AGAIN)


def _owners(reference: Reference | None) -> Mapping[str, str]:
    """The wholesaler of each number; a number that two share is neither's."""
    owners: dict[str, str] = {}
    shared: set[str] = set()
    for row in reference.wholesalers.values() if reference is not None else ():
        for number in contacts(row.phone, row.backup_phone):
            if owners.setdefault(number, row.wholesaler_id) != row.wholesaler_id:
                shared.add(number)
    return {number: owner for number, owner in owners.items() if number not in shared}
