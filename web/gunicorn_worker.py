"""A gunicorn worker that accepts requests while others wait for the store.

One thread accepts requests and handles each to its end, as in gunicorn's sync worker. Where a request is about to wait
for another machine, its thread leaves the accepting to another one, and comes back to it later: the pattern of leader
and followers (Schmidt et al., Pattern-Oriented Software Architecture 2). A request that waits for nobody, such as the
registration of a track, is therefore as fast as in a sync worker, and none has to wait until the store has answered
another one.

Nor does anybody wait until a client has closed its connection, as gunicorn's sync worker does after each response.

Measured on 2026-11-27 (2 cores, seven rounds in turn): tracks are registered at 1.07 times the rate of gunicorn's sync
worker (0.95-1.29), sessions opened at 1.14 (1.03-1.22), and read at 1.14 (0.95-1.27). With gunicorn's threads tracks
are registered at half its rate. Albums of eight clients took 1.2 times as long as the store alone, and 3.8 times with
the sync worker (`python -m bench.peers --only albums`). See docs/adr/0009-gunicorn-workers.md.

The master imports this module: it must not import the service.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from gunicorn.workers.sync import StopWaiting, SyncWorker  # type: ignore[import-untyped]

NOTHING_TO_ACCEPT = (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK)

MAX_CLOSING, CLOSING_SECONDS, MAX_DISCARDED_BYTES = 128, 2.0, 65_536
"""How many connections may wait for their clients to close them, how long, and how much is discarded at a time."""

SIGNAL_SECONDS = 0.5
"""Seconds within which the main thread heeds SIGTERM: gunicorn lets it interrupt no wait (siginterrupt)."""


class ClosingConnections:
    """Connections whose response has been sent, until their clients close them.

    If a connection with unread input were closed at once, its client might lose the end of the response (RFC 9112,
    section 9.6). gunicorn's sync worker waits for the client, and accepts no request meanwhile.
    """

    def __init__(self) -> None:
        # Any thread adds connections, only the leader removes some.
        self.connections = deque[tuple[socket.socket, float]]()

    def add(self, client: socket.socket) -> None:
        """Take a connection over from `client`, which is closed then, and send the end of the stream."""
        with suppress(OSError):
            client.shutdown(socket.SHUT_WR)
            connection = socket.socket(client.family, client.type, client.proto, fileno=client.detach())
            self.connections.append((connection, time.monotonic() + CLOSING_SECONDS))

    def close(self) -> None:
        """Close the oldest ones: those that their clients have closed, that wait for too long or are too many."""
        while self.connections:
            connection, deadline = self.connections[0]
            in_time = len(self.connections) <= MAX_CLOSING and time.monotonic() < deadline
            if in_time and not _is_closed_by_client(connection):
                return
            self.connections.popleft()
            connection.close()


def _is_closed_by_client(connection: socket.socket) -> bool:
    """Discard what the client has sent, and return whether it has closed the connection."""
    try:
        return not connection.recv(MAX_DISCARDED_BYTES, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


class LeaderWorker(SyncWorker):  # type: ignore[misc]
    """Accepts requests in one of at most `threads` threads at a time: the leader, which holds `leadership`.

    If all of them wait, the next request waits for one of them, as in a sync worker.
    """

    alive: bool

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.closing = ClosingConnections()
        self.leadership = threading.Lock()
        self.current = threading.local()
        # Guards what follows.
        self.counting = threading.Lock()
        self.followers = 0
        self.threads: list[threading.Thread] = []

    def load_wsgi(self) -> None:
        """Load the service, and hear from it before a request waits."""
        super().load_wsgi()
        from storage.http import waiting

        waiting.listen(self.leave_accepting)

    def run(self) -> None:
        """Accept requests until the worker is told to stop; then wait for those in progress."""
        for listener in self.sockets:
            # Forked sockets have lost this.
            listener.setblocking(False)
        self._follow()
        for thread in self.threads:
            thread.join()

    def handle_request(self, listener: Any, req: Any, client: socket.socket, addr: Any) -> None:
        """Handle a request, and let its client close the connection later."""
        super().handle_request(listener, req, client, addr)
        self._leave_open(client)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:
        """Send an error for a request that is none, or that failed, and let its client close the connection later."""
        super().handle_error(req, client, addr, exc)
        self._leave_open(client)

    def _leave_open(self, client: socket.socket) -> None:
        # gunicorn shuts TLS down as it closes the connection.
        if not self.cfg.is_ssl:
            self.closing.add(client)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Stop accepting, and wake the leader: the signal may have done so before `alive` was set."""
        super().handle_exit(sig, frame)
        with suppress(BlockingIOError):
            os.write(self.PIPE[1], b".")

    def leave_accepting(self) -> None:
        """Let another thread accept requests, if this one is the leader and another one is free or can be started."""
        if not getattr(self.current, "leads", False):
            return
        with self.counting:
            if not self.followers and not self._start_follower():
                return
        self.current.leads = False
        self.leadership.release()

    def _start_follower(self) -> bool:
        # The main thread counts as well.
        if len(self.threads) + 1 >= self.cfg.threads:
            return False
        thread = threading.Thread(target=self._follow, name="follower", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The system allows no more threads: the request goes on without.
            return False
        self.threads.append(thread)
        return True

    def _follow(self) -> None:
        """Wait for the leadership and accept requests while having it, again and again until the worker stops."""
        while self.alive:
            with self.counting:
                self.followers += 1
            leads = self._wait_for_leadership()
            with self.counting:
                self.followers -= 1
            if not leads:
                return
            self.current.leads = True
            try:
                self._lead()
            except BaseException:
                # As gunicorn's worker would end then: the master starts another one.
                self.alive = False
                raise
            finally:
                if self.current.leads:
                    self.current.leads = False
                    self.leadership.release()

    def _wait_for_leadership(self) -> bool:
        """Return True with the leadership, False once the worker stops."""
        while self.alive:
            if self.leadership.acquire(timeout=SIGNAL_SECONDS):
                return True
        return False

    def _lead(self) -> None:
        """Accept requests until the worker stops, or one of them leaves the accepting to another thread."""
        while self.alive:
            self.notify()
            self.closing.close()
            accepted = False
            for listener in self.sockets:
                accepted = self._accept_from(listener) or accepted
                if not self.current.leads:
                    return
            # Where there was a request, there may be more: no need to wait for one.
            if not accepted:
                self._wait_for_request()

    def _accept_from(self, listener: Any) -> bool:
        try:
            self.accept(listener)
        except OSError as e:
            if e.errno not in NOTHING_TO_ACCEPT:
                raise
            return False
        return True

    def _wait_for_request(self) -> None:
        if not self.is_parent_alive():
            self.alive = False
            return
        try:
            # Without a timeout gunicorn would not wait at all.
            self.wait(self.timeout or 0.5)
        except StopWaiting:
            self.alive = False
