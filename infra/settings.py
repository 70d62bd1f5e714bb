"""Settings: every option of the command line, from the environment or a TOML file as well.

Order of precedence: the option, `ZEROSTOCK_…` in the environment, the file that
`ZEROSTOCK_CONFIG` names, the default here. Secrets are never options: they come from the
environment or from files under `ZEROSTOCK_SECRETS_DIR`, and print as asterisks.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from pipelines.core.stage import RESTATE_WITHIN
from schemas.errors import SettingsError, UsageError
from schemas.fields import parse_duration


def _duration(value: Any) -> Any:
    return parse_duration(value) if isinstance(value, str) else value


Duration = Annotated[int, BeforeValidator(_duration)]


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{name!r} is not a time zone") from error
    return name


def _address(value: str) -> str:
    with suppress(ValueError):
        parts = urlsplit(value)
        if (
            parts.scheme in ("http", "https")
            and parts.hostname
            and not parts.query + parts.fragment
        ):
            return value.rstrip("/")
    raise ValueError("give it as https://host, with a path if need be")


Address = Annotated[str, AfterValidator(_address)]


class Settings(BaseSettings):
    """All settings; durations in ms once read. What is said of each stands in docs/settings.md."""

    model_config = SettingsConfigDict(
        env_prefix="ZEROSTOCK_",
        env_ignore_empty=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    broker: str = "127.0.0.1:9092"
    """Kafka's host:port, several with commas between."""
    warehouse: str | None = None
    """`clickhouse://user:password@host:9000/database`, with TLS `…:9440/database?secure=true`, and
    `&ca_certs=FILE` for an authority of your own. None: the embedded one under `data`.
    """
    reference: Path | None = None
    """The directory of the reference tables."""
    archive: Path | None = None
    """Files that were read to their end are moved to this directory. None: they stay."""
    data: Path | None = None
    """The directory for what one machine keeps: receipts, answers, refused numbers, logins."""
    partitions: int = 2
    """Of every topic, and so the most workers of a kind. Cannot be changed once topics exist."""
    replication: int = 1
    """Copies of each topic. Less than 3 on a cluster: a broker that is lost may take messages
    along.
    """
    clock: Literal["event", "wall"] | None = None
    """wall: events come as they happen; event: files are replayed by their own times. None: wall
    with a `warehouse`, event without.
    """
    disorder: Duration = 60_000
    """How late a source's events may come. Too small: first uses are late, and corrected
    afterwards; too large: every message waits that long. `zerostock sources list` measures what
    fits.
    """
    restate_within: Duration = RESTATE_WITHIN
    """How old an event may be that still corrects what was recorded. Too small: late paperwork
    changes the stock only; larger: more state.
    """
    idle_after: Duration = 30_000
    """The silence after which a live source moves on with the clock. Too small: a source with
    pauses comes late; too large: it holds up all others for that long.
    """
    absent_after: Duration = 600_000
    """The silence after which another reader puts a reader's sources on record as absent. Too
    small: a restart makes its events late; too large: nobody is notified until then.
    """
    watchdog: Annotated[Duration, Field(ge=0)] = 0
    """How often a made-up outlet of a live feed runs empty, to prove the whole chain; 0: never."""
    watchdog_within: Annotated[Duration, Field(ge=1_000)] = 300_000
    """The time in which that outlet must come through before it alarms."""
    ahead: Duration = 300_000
    """How far ahead of the reader's clock a live event may be; others are dead letters. Too large:
    one wrong clock makes all that comes after it late.
    """
    group_wait: Duration = 60_000
    """How long a wholesaler's stock-outs are gathered into one message. 0: each at once."""
    cover_target: Duration = 14 * 86_400_000
    """How many days a delivery should last: how many cards a message says to bring."""
    worth: Annotated[float, Field(ge=0)] = 1.0
    """Lost sales from which on `soon-empty` announces a shelf. Too small: vans drive for nothing;
    too large: shelves run empty untold.
    """
    stale_after: Duration = 6 * 3_600_000
    """A live message older than this is not sent but recorded as `stale`. Too small: an outage of
    the provider loses messages; too large: wholesalers drive to shops that were refilled.
    """
    commit_interval: Duration = 1_000
    """How much work is done again after a kill. Too small: less a second."""
    session_timeout: Duration = 10_000
    """The silence after which a worker's partitions go to another. Too small: a busy worker loses
    them for nothing; too large: they stand still for that long after a death.
    """
    sms: str = "console"
    """The way messages go without `routes`: console, file:PATH or twilio."""
    routes: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = None
    """The table of routes (TOML), see routes.md."""
    sms_signature: str = ""
    """The registered name that carriers want first in a text: 【…】."""
    texts: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = None
    """The folder with your own wording and further languages, see routes.md."""
    policy: Path | None = None
    """The policy file (TOML), see alerts.md. Changes are taken up while workers run."""
    time_zone: Annotated[str, AfterValidator(_zone)] = "Asia/Shanghai"
    """The zone of the business day, of months, and of local times in messages and pages."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    """DEBUG, INFO, WARNING or ERROR. INFO shows a stock-out's whole way."""
    dead_letter_limit: Annotated[int, Field(ge=0)] = 50_000
    """Lines of a feed that is wholly wrong after which reading stops; 0: never."""
    metrics_port: int | None = None
    """Where /metrics, /healthz and /readyz are served; 0: any free port; None: nowhere."""
    metrics_host: str = "127.0.0.1"
    """The address they listen on. Nobody has to log in: keep it within your network."""
    stall_after: Duration = 60_000
    """The time without progress, while messages wait, after which /healthz fails; a worker ends
    after twice as long. Too small: a slow warehouse ends workers.
    """
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """How to log in: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    kafka_username: str | None = None
    """Who logs in."""
    kafka_password: SecretStr | None = None
    """Its password."""
    kafka_ca: Path | None = None
    """The certificate (PEM) of an authority of your own."""
    feed_kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = None
    """As `kafka_security`, for an outside cluster whose topics are read. None: the login is that of
    our own.
    """
    feed_kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    """As `kafka_mechanism`, there."""
    feed_kafka_username: str | None = None
    """As `kafka_username`, there."""
    feed_kafka_password: SecretStr | None = None
    """As `kafka_password`, there."""
    feed_kafka_ca: Path | None = None
    """As `kafka_ca`, there."""
    twilio_account_sid: str | None = None
    """The account."""
    twilio_auth_token: SecretStr | None = None
    """Its token: sends, and proves that a call of the webhook is Twilio's."""
    twilio_from: str | None = None
    """The number messages come from, if there is no messaging service."""
    twilio_messaging_service_sid: str | None = None
    """The messaging service, if there is one."""
    twilio_base_url: str | None = None
    """Another address than Twilio's, for tests."""
    twilio_rate: Annotated[float, Field(gt=0)] = 10.0
    """Messages a second. Too large: Twilio queues them, or answers 429."""
    twilio_validity: Annotated[Duration, Field(ge=1_000, le=36_000_000)] = 4 * 3_600_000
    """How long Twilio itself goes on trying."""
    channels: SecretStr | None = None
    """Managers' channels, a line `NAME = URL` each, see alerts.md."""
    webhook_url: Address | None = None
    """The public https address of the webhook: signatures and links are made for it."""
    webhook_host: str = "127.0.0.1"
    """The address the webhook listens on, behind a proxy with TLS."""
    webhook_port: Annotated[int, Field(ge=0, le=65_535)] = 8_085
    """Its port; 0: any."""
    link_key: SecretStr | None = None
    """Signs the links in messages to the page on the phone. None: no links."""
    trusted_proxies: str = ""
    """Addresses of proxies whose `X-Forwarded-For` is believed, with commas between."""
    link_lifetime: Duration = 48 * 3_600_000
    """How long such a link opens."""
    intake_host: str = "127.0.0.1"
    """The address the intake listens on."""
    intake_port: Annotated[int, Field(ge=0, le=65_535)] = 8_086
    """Its port; 0: any."""
    intake_tokens: SecretStr | None = None
    """Who may send: `FEEDER TOKEN`, with commas between."""
    intake_tokens_file: Path | None = None
    """The same as a file, a line each; taken up when it changes."""
    intake_tls_cert: Path | None = None
    """The certificate (PEM) for TLS."""
    intake_tls_key: Path | None = None
    """Its key."""
    intake_body: Annotated[int, Field(ge=1_024)] = 16 * 1024 * 1024
    """The most bytes of a body, unpacked. Larger: more memory a request."""
    intake_rate: Annotated[int, Field(ge=1)] = 50_000
    """The most events a second of one feeder; beyond that it gets 429."""

    @property
    def live(self) -> bool:
        """Whether events come as they happen: by default so on a server, not in a directory."""
        return self.clock == "wall" if self.warehouse is None else self.clock != "event"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options, then the environment, then secret files, then the TOML file."""
        sources = [init_settings, env_settings, file_secret_settings]
        if (config := os.environ.get("ZEROSTOCK_CONFIG")) is not None:
            sources.append(TomlConfigSettingsSource(settings_cls, config))
        return tuple(sources)


def load_settings(**options: Any) -> Settings:
    """The settings with the options given on the command line (None means not given).

    Raises `UsageError` naming the option that is wrong, `SettingsError` naming the setting, never
    its value if it is a secret.
    """
    config = os.environ.get("ZEROSTOCK_CONFIG")
    if config is not None and not Path(config).is_file():
        raise SettingsError(f"ZEROSTOCK_CONFIG names {config}, which is not a file")
    given = {name: value for name, value in options.items() if value is not None}
    try:
        return Settings(_secrets_dir=os.environ.get("ZEROSTOCK_SECRETS_DIR"), **given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(str(part) for part in first["loc"])
        reason = first["msg"].removeprefix("Value error, ")
        if name in given:
            raise UsageError(f"--{name.replace('_', '-')}: {reason}") from None
        raise SettingsError(f"setting {name} (ZEROSTOCK_{name.upper()}): {reason}") from None
    except ValueError as error:
        raise SettingsError(f"settings cannot be read: {error}") from None
