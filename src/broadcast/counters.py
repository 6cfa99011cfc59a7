"""What a hub counts, for metrics and for tests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Totals since the hub was made.

    Args:
        published: messages accepted by the broker, duplicates not counted.
        duplicates: publishes whose id (or version) the broker had already.
        retries: further attempts of publishes.
        rejected: publishes that raised PublishRejected.
        unknown: publishes that raised PublishUnknown.
        received: live records delivered to channels of this worker, once each.
        delivered: events queued for subscribers, one for each.
        ignored: records that came twice.
        unreadable: records that are no message this worker can read.
        reads: history reads for channels.
        resyncs: times a channel had to compare itself with history.
        gaps: Gaps announced by channels and to subscribers, by reason.
        recovered: resumes that lost nothing.
        unrecovered: resumes that began with a Gap.
        healed: times a subscriber that had been over its bound had caught up without a Gap.
        overflows: times a subscriber was over its bound, by policy.
        dropped: messages that went as the oldest of a queue, under ``drop_oldest`` or ``latest``.
        conflated: messages that went because a newer one of their key replaced them.
        kicked: connections of this worker whose user was kicked.
    """

    published: int = 0
    duplicates: int = 0
    retries: int = 0
    rejected: int = 0
    unknown: int = 0
    received: int = 0
    delivered: int = 0
    ignored: int = 0
    unreadable: int = 0
    reads: int = 0
    resyncs: int = 0
    gaps: Counter[str] = field(default_factory=Counter)
    recovered: int = 0
    unrecovered: int = 0
    overflows: Counter[str] = field(default_factory=Counter)
    dropped: int = 0
    conflated: int = 0
    healed: int = 0
    kicked: int = 0
