"""A ClickHouse server of its own: Debian's clickhouse-server, started as a child.

Debian 12 ships 18.16: enough to prove the native protocol (connect, authenticate, insert, retry,
a dropped connection, a killed server), too old for the product's schema (no DateTime64, no CTE).
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from services.certificates import Certificates, make_certificates
from services.child import Child
from services.need import ServiceMissing
from services.ports import free_port
from services.waiting import accepts_connections, wait_until

USER: Final = "zerostock"
PASSWORD: Final = "only-for-tests"
#: A user of the same password who may only read.
READER: Final = "reader"

_CONFIG: Final = """\
<yandex>
  <logger><level>information</level><console>1</console>
    <log>{folder}/clickhouse-server.log</log>
    <errorlog>{folder}/clickhouse-server.err.log</errorlog></logger>
  <listen_host>127.0.0.1</listen_host>
  <tcp_port>{tcp}</tcp_port>
  <http_port>{http}</http_port>
  {tls}
  <path>{folder}/data/</path>
  <tmp_path>{folder}/tmp/</tmp_path>
  <user_files_path>{folder}/user_files/</user_files_path>
  <format_schema_path>{folder}/format_schemas/</format_schema_path>
  <users_config>{folder}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <timezone>UTC</timezone>
  <mark_cache_size>268435456</mark_cache_size>
  <max_concurrent_queries>100</max_concurrent_queries>
</yandex>
"""

_TLS: Final = """\
<tcp_port_secure>{secure}</tcp_port_secure>
  <openSSL><server>
    <certificateFile>{certificate}</certificateFile>
    <privateKeyFile>{key}</privateKeyFile>
    <verificationMode>none</verificationMode>
    <loadDefaultCAFile>false</loadDefaultCAFile>
    <cacheSessions>true</cacheSessions>
    <disableProtocols>sslv2,sslv3</disableProtocols>
  </server></openSSL>"""

_USERS: Final = """\
<yandex>
  <profiles>
    <default><max_memory_usage>2000000000</max_memory_usage></default>
    <readonly><readonly>1</readonly></readonly>
  </profiles>
  <users>{users}</users>
  <quotas><default/></quotas>
</yandex>
"""

_USER: Final = """
    <{name}><password>{password}</password><networks><ip>127.0.0.1</ip></networks>
      <profile>{profile}</profile><quota>default</quota></{name}>"""


class ClickHouseServer:
    """A ClickHouse server in `folder`; `start()` returns when it answers.

    With `secure`, `secure_url` is a TLS port whose certificate `certificates.authority` signed.
    """

    name = "ClickHouse"

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        # Debian puts it where only root's path leads.
        path = f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin"
        program = shutil.which("clickhouse-server", path=path)
        if program is None:
            raise ServiceMissing(
                "no ClickHouse server is installed (apt-get install clickhouse-server)"
            )
        self._program = program
        self._folder = folder
        self._port, self._http_port = free_port(), free_port()
        self._secure_port = free_port() if secure else None
        self._child: Child | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.certificates: Certificates | None = (
            make_certificates(folder / "certificates") if secure else None
        )

    @property
    def port(self) -> int:
        """The native protocol's port."""
        return self._port

    @property
    def url(self) -> str:
        """The native protocol's URL, with user and password."""
        return f"clickhouse://{USER}:{PASSWORD}@127.0.0.1:{self._port}/default"

    @property
    def secure_url(self) -> str:
        """The same through TLS."""
        assert self._secure_port is not None, "this server was made without secure=True"
        return f"clickhouse://{USER}:{PASSWORD}@localhost:{self._secure_port}/default?secure=true"

    @property
    def child(self) -> Child:
        """The running (or last) process."""
        assert self._child is not None, "never started"
        return self._child

    def _configure(self) -> Path:
        for name in ("data", "tmp", "user_files", "format_schemas"):
            (self._folder / name).mkdir(exist_ok=True)
        users = "".join(
            _USER.format(name=name, password=PASSWORD, profile=profile)
            for name, profile in ((USER, "default"), (READER, "readonly"))
        )
        # The server insists on a user of this name; nobody knows the password.
        users += _USER.format(name="default", password=os.urandom(16).hex(), profile="readonly")
        (self._folder / "users.xml").write_text(_USERS.format(users=users))
        tls = ""
        if self.certificates is not None:
            tls = _TLS.format(
                secure=self._secure_port,
                certificate=self.certificates.certificate,
                key=self.certificates.key,
            )
        config = self._folder / "config.xml"
        config.write_text(
            _CONFIG.format(folder=self._folder, tcp=self._port, http=self._http_port, tls=tls)
        )
        return config

    def start(self) -> None:
        """Start, on whatever data is there, and wait until the server answers."""
        assert self._child is None or not self._child.running, "already running"
        self._child = Child(
            [self._program, f"--config-file={self._configure()}"],
            log=self._folder / "console.log",
            cwd=self._folder,
        )

        def answers() -> bool:
            assert self.child.running, f"ClickHouse ended:{self.child.tail()}"
            ports = [self._http_port, self._port, self._secure_port]
            return all(accepts_connections(port) for port in ports if port is not None)

        wait_until(answers, "ClickHouse's ports", detail=self.child.tail)

    def stop(self) -> None:
        """Shut down in good order (SIGTERM)."""
        self.child.stop(30)

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()

    def restart(self) -> None:
        """Stop in good order and start again on the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """End it at once, if it runs; the data are about to go."""
        if self._child is not None:
            self._child.kill()
