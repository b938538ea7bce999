"""Writer and reader of a mapped file together: a reader sees what the writer publishes, complete or not at all."""

from __future__ import annotations

import os
import random
import struct
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from gpumodels_shared.identity import this_process
from gpumodels_shared.layout import WriterState
from gpumodels_shared.reader import SnapshotReader, TornError
from gpumodels_shared.writer import SnapshotWriter
from mapped_files import latest

ME: Final = os.geteuid()


def test_the_newest_payload_is_read(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    for seq in range(1, 6):
        writer.publish(f"snapshot {seq}".encode())
        payload = latest(reader)
        assert (payload.seq, payload.data) == (seq, f"snapshot {seq}".encode())
        assert abs(payload.realtime_ns - time.time_ns()) < 60 * 10**9
        assert reader.heartbeat().last_seq == seq
        assert reader.heartbeat().state is WriterState.RUNNING


def test_letting_go_twice_closes_no_descriptor_of_somebody_else(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.close()
    reader.close()
    # These get the numbers that were just freed.
    strangers = [os.open(os.devnull, os.O_RDONLY) for _ in range(4)]
    writer.close()
    writer.abandon()
    reader.close()
    for stranger in strangers:
        os.close(stranger)
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.publish(b"too late")
    assert not writer.still_named()


def test_a_removed_or_replaced_file_is_noticed_by_both_ends(writer: SnapshotWriter, reader: SnapshotReader) -> None:
    writer.publish(b"payload")
    assert writer.still_named()
    assert reader.still_named()
    writer.path.unlink()
    assert not writer.still_named()
    assert not reader.still_named()
    assert latest(reader).data == b"payload"
    writer.path.write_bytes(b"another")
    assert not writer.still_named()
    assert not reader.still_named()


def self_describing(seq: int, length: int) -> bytes:
    """A payload that shows any mixture with another one."""
    return struct.pack("<Q", seq) * (length // 8)


@pytest.mark.slow
def test_readers_beside_a_flat_out_writer_accept_nothing_torn_and_never_go_back(tmp_path: Path) -> None:
    writer = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
    stop = threading.Event()
    published = 0

    def write() -> None:
        nonlocal published
        lengths = random.Random(3)
        while not stop.is_set():
            published += 1
            writer.publish(self_describing(published, lengths.randrange(8, 8 * 6000)))

    thread = threading.Thread(target=write)
    thread.start()
    reader = SnapshotReader(writer.path, ME)
    accepted = torn = distinct = last = 0
    try:
        while distinct <= 100 or accepted < 2_000:
            try:
                payload = reader.latest()
            except TornError:
                torn += 1
                continue
            if payload is None:
                continue
            assert payload.data == self_describing(payload.seq, len(payload.data))
            assert payload.seq >= last
            distinct += payload.seq > last
            last = payload.seq
            accepted += 1
    finally:
        stop.set()
        thread.join()
        reader.close()
        writer.close()
    print(f"{published} published, {accepted} read, {distinct} distinct, {torn} given up, 0 bad")  # noqa: T201
    assert torn < accepted


@pytest.mark.slow
def test_readers_follow_a_file_that_outgrows_itself_while_they_read(tmp_path: Path) -> None:
    """Whenever the old file is superseded, the name already leads to a newer, complete snapshot."""
    seqs: list[int] = []
    for _ in range(20):
        writer = SnapshotWriter(tmp_path, this_process(), heartbeat_ms=250)
        writer.publish(self_describing(1, 80))

        def grow(growing: SnapshotWriter = writer) -> None:
            for seq in range(2, 7):
                growing.publish(self_describing(seq, 30_000 * 2**seq))

        thread = threading.Thread(target=grow)
        reader = SnapshotReader(writer.path, ME)
        thread.start()
        last = 0
        while last < 6:
            if reader.heartbeat().state is WriterState.SUPERSEDED:
                reader.close()
                reader = SnapshotReader(writer.path, ME)
            payload = latest(reader)
            assert payload.data == self_describing(payload.seq, len(payload.data))
            assert payload.seq >= last
            last = payload.seq
        thread.join()
        seqs.append(last)
        reader.close()
        writer.close()
        writer.path.unlink()
    assert seqs == [6] * 20
    assert os.listdir(tmp_path) == []
