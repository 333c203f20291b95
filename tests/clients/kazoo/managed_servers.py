"""Runs kazoo's own test suite against ringkeeper, or against the Java reference through the very same code.

kazoo's tests start, stop and restart their servers themselves, through `kazoo.testing.common`. This pytest plugin takes
that module's place: `ManagedZooKeeper` and `ZookeeperCluster` keep their interface and their configuration (tick time,
four-letter words, super digest, peers), and what they start is chosen by the environment:

    RINGKEEPER_TEST_SERVER     ringkeeper | java
    RINGKEEPER_TEST_BINARY     the server's binary            (ringkeeper)
    RINGKEEPER_TEST_CLASSPATH  the reference's class path     (java)
    RINGKEEPER_TEST_DIR        where the servers' directories go; a real disk, kept after a failure
    RINGKEEPER_TEST_EXPECTED   run exactly the tests these files (parted by colons) list; one that is missing is an error
    RINGKEEPER_TEST_RECORD     write the tests that passed to this file

Not here, on purpose: TLS and SASL. Their tests need certificates and a login configuration and are left out by name.
"""

import logging
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time
import types
from collections import namedtuple

import pytest

READY_TIMEOUT_S = 30
STOP_TIMEOUT_S = 20

# What a standalone server without TLS, SASL or the machine of kazoo's own CI cannot be asked.
LEFT_OUT = {
    "test_build": "asks about the Python of kazoo's own CI",
    "test_sasl": "needs SASL",
    "test_client::TestSSLClient": "needs TLS",
}

ServerInfo = namedtuple(
    "ServerInfo", "server_id client_port secure_client_port election_port leader_port admin_port peer_type"
)


class ManagedZooKeeper:
    """One server process with a directory of its own. `run` returns once the client port answers `srvr`."""

    host = "127.0.0.1"

    def __init__(self, server_info, peers, configuration_entries, java_system_properties):
        self.server_info = server_info
        self.peers = peers
        self.configuration_entries = configuration_entries
        self.system_properties = java_system_properties
        base = pathlib.Path(os.environ["RINGKEEPER_TEST_DIR"])
        self.working_path = base / f"server-{server_info.server_id}-{server_info.client_port}"
        self.log_path = self.working_path / "server.log"
        self.process = None

    @property
    def client_port(self):
        return self.server_info.client_port

    @property
    def address(self):
        return f"{self.host}:{self.client_port}"

    @property
    def secure_address(self):
        return f"{self.host}:{self.server_info.secure_client_port}"

    @property
    def running(self):
        return self.process is not None

    def run(self):
        if self.running:
            return
        data = self.working_path / "data"
        data.mkdir(parents=True, exist_ok=True)
        (data / "myid").write_text(str(self.server_info.server_id))
        config = self.working_path / "zoo.cfg"
        config.write_text(self._config(data))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(config), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.working_path
            )
        self._await_ready()

    def stop(self):
        """Stops the server in good order; its directory stays, so that `run` finds the same data."""
        if not self.running:
            return
        process, self.process = self.process, None
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server on port {self.client_port} did not stop when asked")
        # The JVM reports the signal that ended it; ringkeeper handles the signal and leaves with 0.
        expected = {143, -15} if is_java() else {0}
        assert process.returncode in expected, f"the server on {self.client_port} left with {process.returncode}"

    def reset(self):
        self.stop()
        shutil.rmtree(self.working_path / "data", ignore_errors=True)

    def destroy(self):
        self.stop()
        shutil.rmtree(self.working_path, ignore_errors=True)

    def get_logs(self, num_lines=100):
        if not self.log_path.exists():
            return []
        return self.log_path.read_text(errors="replace").splitlines()[-num_lines:]

    def _config(self, data):
        lines = [
            "tickTime=2000",
            f"dataDir={data}",
            f"clientPort={self.client_port}",
            f"clientPortAddress={self.host}",
            "maxClientCnxns=0",
            "admin.enableServer=false",
            "preAllocSize=4096",
            *self.configuration_entries,
        ]
        if self.peers:
            lines += ["initLimit=4", "syncLimit=2", f"peerType={self.server_info.peer_type}"]
            for peer in sorted((self.server_info, *self.peers)):
                ports = f"{peer.leader_port}:{peer.election_port}"
                lines.append(f"server.{peer.server_id}={self.host}:{ports}:{peer.peer_type}")
        return "\n".join(lines) + "\n"

    def _command(self, config):
        # The reference decodes digest credentials with the JVM's own character set, kazoo encodes them in UTF-8.
        properties = ["-Dfile.encoding=UTF-8", "-Dreadonlymode.enabled=true", *self.system_properties]
        if not is_java():
            return [os.environ["RINGKEEPER_TEST_BINARY"], *properties, str(config)]
        quick_start = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO"]
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        return ["java", "-cp", os.environ["RINGKEEPER_TEST_CLASSPATH"], *quick_start, *properties, main, str(config)]

    def _await_ready(self):
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection((self.host, self.client_port), 1) as connection:
                    connection.settimeout(2)
                    connection.sendall(b"srvr")
                    if connection.recv(16):
                        return
            except OSError:
                pass
            time.sleep(0.02)
        tail = "\n".join(self.get_logs(30))
        code, self.process = self.process.poll(), None
        raise AssertionError(f"no server on port {self.client_port} (exit code {code}):\n{tail}")


class ZookeeperCluster:
    """`size` servers; one of them stands alone, several are peers."""

    def __init__(
        self,
        install_path=None,
        classpath=None,
        size=1,
        port_offset=20000,
        observer_start_id=-1,
        configuration_entries=(),
        java_system_properties=(),
        jaas_config=None,
    ):
        assert jaas_config is None, "SASL tests are left out"
        infos = []
        for index in range(size):
            server_id, port = index + 1, port_offset + 10 * index
            observes = observer_start_id != -1 and server_id >= observer_start_id
            kind = "observer" if observes else "participant"
            infos.append(ServerInfo(server_id, port, port + 4, port + 1, port + 2, port + 3, kind))
        self._servers = [
            ManagedZooKeeper(
                info, [other for other in infos if other is not info], configuration_entries, java_system_properties
            )
            for info in infos
        ]

    def __getitem__(self, index):
        return self._servers[index]

    def __iter__(self):
        return iter(self._servers)

    def start(self):
        for server in self:
            server.run()

    def stop(self):
        for server in self:
            server.stop()

    def terminate(self):
        for server in self:
            server.destroy()

    def reset(self):
        for server in self:
            server.reset()

    def get_logs(self):
        return [line for server in self for line in server.get_logs()]


def is_java():
    return os.environ["RINGKEEPER_TEST_SERVER"] == "java"


def name_of(item):
    """`test_lock::KazooLockTests::test_lock`, whatever directory the wheel was installed to."""
    parts = [item.module.__name__.removeprefix("kazoo.tests.")]
    if item.cls is not None:
        parts.append(item.cls.__name__)
    return "::".join([*parts, item.name])


def listed(paths):
    """The names in list files: one a line, what follows a `#` is for the reader."""
    lines = [line for path in paths.split(os.pathsep) for line in pathlib.Path(path).read_text().splitlines()]
    names = (line.split("#")[0].strip() for line in lines)
    return {name for name in names if name}


def pytest_configure(config):
    config.passed_names = set()


def pytest_collection_modifyitems(config, items):
    left_out = [item for item in items if any(name_of(item).startswith(prefix) for prefix in LEFT_OUT)]
    items[:] = [item for item in items if item not in left_out]
    expected_path = os.environ.get("RINGKEEPER_TEST_EXPECTED")
    if expected_path:
        expected = listed(expected_path)
        missing = expected - {name_of(item) for item in items}
        if missing and not config.option.keyword:
            raise pytest.UsageError(f"expected tests that kazoo does not have: {sorted(missing)}")
        left_out += [item for item in items if name_of(item) not in expected]
        items[:] = [item for item in items if name_of(item) in expected]
    config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    name = name_of(item)
    if report.when == "call" and report.passed:
        item.config.passed_names.add(name)
    elif report.failed:
        item.config.passed_names.discard(name)
    # An expected test that skips itself has not passed: the server must have told it something else.
    if report.skipped and os.environ.get("RINGKEEPER_TEST_EXPECTED"):
        report.outcome = "failed"
    return report


def pytest_sessionfinish(session):
    logging.disable()  # clients that some tests leave behind would go on about servers that are gone
    record = os.environ.get("RINGKEEPER_TEST_RECORD")
    if record:
        names = sorted(session.config.passed_names)
        pathlib.Path(record).write_text("".join(f"{name}\n" for name in names))


def take_the_place_of_kazoo_testing_common():
    module = types.ModuleType("kazoo.testing.common")
    module.ManagedZooKeeper = ManagedZooKeeper
    module.ServerInfo = ServerInfo
    module.ZookeeperCluster = ZookeeperCluster
    sys.modules["kazoo.testing.common"] = module


take_the_place_of_kazoo_testing_common()
