"""A kazoo client that lives through a rolling migration. Usage: counter.py HOST:PORT,...

It counts in a node under the version it knows, holds an ephemeral and a watch, and reconnects as kazoo does. When stdin ends it
says how it went, and exits 1 if a write that was answered is gone, or its session, or its ephemeral, or its watch.
"""

import logging
import sys
import threading

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import KazooException, NodeExistsError
from kazoo.handlers.threading import KazooTimeoutError

COUNTER, LIVE, WATCHED = "/roll-kazoo", "/roll-kazoo/live", "/roll-kazoo/watched"


def main(hosts):
    logging.disable(logging.CRITICAL)  # connections come and go
    over, states, fired = threading.Event(), [], threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    client = KazooClient(hosts=hosts, timeout=10.0, randomize_hosts=True)
    client.add_listener(lambda state: states.append(state) and None)
    client.start(timeout=30)
    session, _ = client.client_id
    for path in (COUNTER, LIVE, WATCHED):
        try:
            client.retry(client.create, path, b"0", ephemeral=path == LIVE)
        except NodeExistsError:
            pass  # the answer to the first attempt was lost
    client.retry(client.exists, WATCHED, watch=lambda event: fired.set())
    answered, unknown = 0, 0
    print(f"session 0x{session:x}", flush=True)
    while not over.wait(0.002):
        try:
            _, stat = client.get(COUNTER)
            client.set(COUNTER, str(stat.version + 1).encode(), stat.version)
            answered += 1
        except (KazooException, KazooTimeoutError):
            unknown += 1
            over.wait(0.05)
    data, stat = client.retry(client.get, COUNTER)
    live = client.retry(client.exists, LIVE)
    client.retry(client.set, WATCHED, b"now")
    has_fired = fired.wait(10)
    same = client.client_id[0] == session and KazooState.LOST not in states
    suspended = states.count(KazooState.SUSPENDED)
    print(f"kazoo: {answered} writes, {unknown} without an answer, {suspended} reconnections, version {stat.version}")
    wrong = []
    if not answered <= stat.version <= answered + unknown or int(data) != stat.version:
        wrong.append(f"a write is gone: version {stat.version}, data {data}")
    if not same:
        wrong.append("the session has ended")
    if live is None or live.ephemeralOwner != session:
        wrong.append(f"the ephemeral is not ours: {live}")
    if not has_fired:
        wrong.append("the watch is gone")
    print("\n".join(wrong), end="")
    client.stop()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
