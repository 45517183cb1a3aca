"""``cachekit doctor``: whether a store does what the toolkit needs, and what to change where it does not."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
from collections import Counter
from collections.abc import Sequence
from typing import Final, cast

from cachekit._cli.certificates import check_certificate, check_files
from cachekit._cli.lines import Line, Patient, Status, merged
from cachekit._cli.output import Output
from cachekit._cli.places import add_place, url_of
from cachekit._cli.rights import ALWAYS, FEATURES, check_rights
from cachekit._cli.server import (
    check_clock,
    check_eviction,
    check_latency,
    check_persistence,
    check_version,
    unreachable,
)
from cachekit._cli.topology import check_cluster, check_replicas, check_sentinels
from cachekit._cli.tracking import check_tracking
from cachekit.clock import SystemClock
from cachekit.config import DEFAULT_TIMEOUT, parse_duration
from cachekit.errors import ConfigurationError, StoreError
from cachekit.sealing import VARIABLE
from cachekit.stores.base import TrackingStore
from cachekit.stores.connect import open_store
from cachekit.stores.visits import Door, masters_of, visit
from cachekit.urls import ClusterURL, SentinelURL, UnixURL, parse

HELP: Final = "examine a store: version, latency, rights, memory, disk, TLS, clock, tracking, servers"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_place(parser, positional=True)
    parser.add_argument("--timeout", default=DEFAULT_TIMEOUT, help="the timeout= of the cache (default: 0.25 s)")
    parser.add_argument(
        "--need",
        default="",
        metavar="FEATURE,…",
        help=f"features that the application uses, whose lack is a fault: all, or of {', '.join(FEATURES)}",
    )
    parser.add_argument(
        "--encrypted",
        action="store_true",
        default=bool(os.environ.get(VARIABLE)),
        help=f"snapshots are sealed with keys (default: whether {VARIABLE} is set)",
    )


async def run(options: argparse.Namespace, out: Output) -> int:
    """Examine the store, and return 1 if something is at fault."""
    url = url_of(options)
    patient = Patient(
        url=parse(url),
        prefix=options.prefix,
        timeout=parse_duration(_number(options.timeout), "--timeout"),
        needs=needs_of(options.need),
        encrypted=options.encrypted,
    )
    lines = await examine(patient, url)
    counts = Counter(line.status for line in lines)
    if out.as_json:
        checks = [
            {
                "check": line.check,
                "status": line.status.value,
                "text": line.text,
                "advice": line.advice,
                "servers": [*line.servers],
            }
            for line in lines
        ]
        out.document({"url": str(patient.url), "ok": not counts[Status.FAULT], "checks": checks})
    else:
        _show(patient, lines, counts, out)
    return 1 if counts[Status.FAULT] else 0


def _number(text: str | float) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def needs_of(text: str) -> frozenset[str]:
    """Return the features that an application uses.

    Raises:
        ConfigurationError: One of them does not exist.
    """
    named = {part.strip() for part in text.split(",") if part.strip()}
    if "all" in named:
        return frozenset(FEATURES)
    if unknown := named - FEATURES.keys():
        message = f"--need has no feature {', '.join(sorted(unknown))}; it takes all, or of {', '.join(FEATURES)}"
        raise ConfigurationError(message)
    return ALWAYS | named


def _show(patient: Patient, lines: Sequence[Line], counts: Counter[Status], out: Output) -> None:
    out.say(f"{patient.url}, prefix {patient.prefix!r}")
    for line in lines:
        where = f"{', '.join(line.servers)}: " if line.servers else ""
        out.labelled(line.status.value, line.check, where + line.text)
        if line.advice and line.status is not Status.OK:
            out.advise(line.advice)
    summary = [f"{counts[status]} {status.value}" for status in Status if counts[status]]
    out.say(", ".join(summary), "fault" if counts[Status.FAULT] else "ok")


# --- the examination ---------------------------------------------------------------------------------------


async def examine(patient: Patient, url: str) -> list[Line]:
    """Return a line for each check of the store that ``url`` names; it was parsed for ``patient``.

    Raises:
        ConfigurationError: The store is in this process.
    """
    lines = check_files(getattr(patient.url, "tls", None))
    try:
        lines += await _systems(patient)
        doors = await masters_of(patient.url, patient.patience)
    except StoreError as error:
        return [*lines, unreachable(error)]
    told = await asyncio.gather(*(_of_server(door, patient) for door in doors))
    of_servers = [(door.name, line) for door, some in zip(doors, told, strict=True) for line in some]
    lines += merged(of_servers, len(doors))
    # A server that could not be examined reports nothing either.
    if all(any(line.check == "version" for line in some) for some in told):
        lines.append(await _tracking(patient, doors, url))
    return lines


async def _systems(patient: Patient) -> list[Line]:
    """Return the lines about a system of several servers."""
    if isinstance(patient.url, ClusterURL):
        return await check_cluster(patient.url, patient.patience)
    return await check_sentinels(patient.url, patient.patience) if isinstance(patient.url, SentinelURL) else []


async def _of_server(door: Door, patient: Patient) -> list[Line]:
    """Return the lines about one server that keeps keys."""
    try:
        async with visit(door, patient.patience) as server:
            lines = [
                *await check_version(server, patient),
                check_certificate(server, local=_is_local(door, patient)),
                await check_latency(server, door, patient),
                await check_clock(server),
                await check_eviction(server),
                *await check_persistence(server, patient),
            ]
        lines += await check_rights(door, patient)
        if not isinstance(patient.url, ClusterURL):
            lines.append(await check_replicas(door, patient))
    except StoreError as error:
        return [unreachable(error)]
    return lines


def _is_local(door: Door, patient: Patient) -> bool:
    if isinstance(patient.url, UnixURL):
        return True
    host = door.name.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def _tracking(patient: Patient, doors: Sequence[Door], url: str) -> Line:
    # A store in memory, which reports nothing, has no doors.
    store = open_store(url, clock=SystemClock())
    try:
        return await check_tracking(cast("TrackingStore", store), doors, patient)
    finally:
        await store.aclose()
