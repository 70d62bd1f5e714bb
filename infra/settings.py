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
    """All settings; durations in ms once read."""

    model_config = SettingsConfigDict(
        env_prefix="ZEROSTOCK_", env_ignore_empty=True, extra="ignore"
    )

    broker: str = "127.0.0.1:9092"
    warehouse: str | None = None
    reference: Path | None = None
    archive: Path | None = None
    data: Path | None = None
    partitions: int = 2
    replication: int = 1
    clock: Literal["event", "wall"] | None = None
    disorder: Duration = 60_000
    restate_within: Duration = RESTATE_WITHIN
    idle_after: Duration = 30_000
    absent_after: Duration = 600_000
    watchdog: Annotated[Duration, Field(ge=0)] = 0
    watchdog_within: Annotated[Duration, Field(ge=1_000)] = 300_000
    ahead: Duration = 300_000
    group_wait: Duration = 60_000
    cover_target: Duration = 14 * 86_400_000
    stale_after: Duration = 6 * 3_600_000
    commit_interval: Duration = 1_000
    session_timeout: Duration = 10_000
    sms: str = "console"
    routes: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = None
    sms_signature: str = ""
    texts: Annotated[Path | None, BeforeValidator(lambda path: path or None)] = None
    policy: Path | None = None
    time_zone: Annotated[str, AfterValidator(_zone)] = "Asia/Shanghai"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "WARNING"
    dead_letter_limit: Annotated[int, Field(ge=0)] = 50_000
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    stall_after: Duration = 60_000

    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    kafka_ca: Path | None = None

    # An outside cluster whose topics are read, where its login is another.
    feed_kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] | None = None
    feed_kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    feed_kafka_username: str | None = None
    feed_kafka_password: SecretStr | None = None
    feed_kafka_ca: Path | None = None

    twilio_account_sid: str | None = None
    twilio_auth_token: SecretStr | None = None
    twilio_from: str | None = None
    twilio_messaging_service_sid: str | None = None
    twilio_base_url: str | None = None
    twilio_rate: Annotated[float, Field(gt=0)] = 10.0
    twilio_validity: Annotated[Duration, Field(ge=1_000, le=36_000_000)] = 4 * 3_600_000

    channels: SecretStr | None = None

    webhook_url: Address | None = None
    webhook_host: str = "127.0.0.1"
    webhook_port: Annotated[int, Field(ge=0, le=65_535)] = 8_085
    link_key: SecretStr | None = None
    trusted_proxies: str = ""
    link_lifetime: Duration = 48 * 3_600_000

    intake_host: str = "127.0.0.1"
    intake_port: Annotated[int, Field(ge=0, le=65_535)] = 8_086
    intake_tokens: SecretStr | None = None
    intake_tokens_file: Path | None = None
    intake_tls_cert: Path | None = None
    intake_tls_key: Path | None = None
    intake_body: Annotated[int, Field(ge=1_024)] = 16 * 1024 * 1024
    intake_rate: Annotated[int, Field(ge=1)] = 50_000

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
