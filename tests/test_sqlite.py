"""SQLite's write-ahead log: checkpoints beside the requests."""

from __future__ import annotations

import os
import threading

import pytest

from storage.db import sqlite
from storage.db.connection import open_database
from support.processes import wait_until

pytestmark = pytest.mark.sqlite


@pytest.fixture
def database(tmp_path, monkeypatch):
    """A database with a checkpoint after every hundred statements."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_INTERVAL", 100)
    database = open_database(f"sqlite:///{tmp_path}/checkpoints.db")
    database.execute_sql("CREATE TABLE item (value TEXT)")
    yield database
    database.close_all()


def insert(database, count):
    """Insert rows, each in a transaction of its own."""
    for _ in range(count):
        database.execute_sql("INSERT INTO item VALUES (?)", ("x" * 1000,))


def log_size(database):
    """Return the bytes of the write-ahead log."""
    return os.path.getsize(f"{database.database}-wal")


def test_statements_do_not_wait_for_a_checkpoint(database, monkeypatch):
    """While a checkpoint runs, statements go on, and no other checkpoint begins."""
    threads, released, checkpoint = [], threading.Event(), database.checkpoint

    def wait():
        threads.append(threading.current_thread())
        assert released.wait(20)
        checkpoint()

    monkeypatch.setattr(database, "checkpoint", wait)
    insert(database, 350)
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()
    released.set()
    threads[0].join()
    insert(database, 100)
    wait_until(lambda: len(threads) == 2, "No other checkpoint begins.")


def test_log_does_not_grow_for_ever(database):
    """Checkpoints let the log start anew, so that it has a bound."""
    for _ in range(30):
        insert(database, 100)
        wait_until(lambda: "checkpoint" not in {thread.name for thread in threading.enumerate()}, "It does not end.")
    assert log_size(database) < 2**20
    assert database.execute_sql("SELECT count(*) FROM item").fetchone()[0] == 3000


def test_close_waits_for_a_checkpoint(database):
    """A database can be closed at any moment."""
    for _ in range(20):
        insert(database, 100)
        database.close_all()


def test_statements_go_on_where_no_thread_can_be_started(database, monkeypatch):
    """Without a thread for a checkpoint, statements succeed, and the checkpoint runs once there is one again."""

    def fail(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("storage.db.sqlite.Thread.start", fail)
        insert(database, 250)
    checkpoints = []
    monkeypatch.setattr(database, "checkpoint", lambda: checkpoints.append(1))
    insert(database, 100)
    wait_until(lambda: checkpoints, "No checkpoint runs.")
