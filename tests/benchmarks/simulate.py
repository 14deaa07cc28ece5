"""A simulation of one large run: files written, uploaded, held by quotas, answered and loaded.

    python -m benchmarks.simulate --rows 1000000 --megabytes 1170 --input-tokens 181000000
        --output-tokens 44000000 --quota 1000000000 --turnaround 60

The size of the work is what `dbt-enrich plan` says of a model; the quotas are one's own. What a
service does with a batch is not public and differs from day to day, so it is given as well: how
long a batch takes at least, and how many tokens a deployment works off in a minute.
"""

from __future__ import annotations

import argparse
import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.markdown import table
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.pipeline.export.file_limits import Group, limits_in_room
from dbt_enrich.pipeline.run.token_quota import BYTES_PER_TOKEN, estimated_tokens

# Requests and bytes of one file: what the services take (Azure; OpenAI takes 50,000 requests).
FILE_REQUESTS, FILE_BYTES = 100_000, 196_000_000
# How long a batch may take: the completion window.
WINDOW_MINUTES = 24 * 60
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Work:
    """What is asked, as `dbt-enrich plan` says it.

    Attributes:
        rows: Staged rows.
        requests: Requests, fewer than rows where they are packed.
        request_bytes: Bytes of all input files.
        response_bytes: Bytes of all output files.
        input_tokens: Tokens of all requests.
        output_tokens: Tokens of all answers.
    """

    rows: int
    requests: int
    request_bytes: int
    response_bytes: int
    input_tokens: int
    output_tokens: int

    def times(self, factor: float) -> Work:
        """Return so many times as much work."""
        return Work(
            *(
                round(value * factor)
                for value in (
                    self.rows, self.requests, self.request_bytes, self.response_bytes,
                    self.input_tokens, self.output_tokens,
                )
            )
        )  # fmt: skip


@dataclass(frozen=True)
class EnginePace:
    """What the engine itself takes, in seconds.

    Attributes:
        stage: For a row, until the first file can be written.
        write: For a request.
        load: For a request.
        publish: For a row, after the last answer is loaded.
    """

    stage: float = 6e-6
    write: float = 3e-6
    load: float = 7e-6
    publish: float = 12e-6


@dataclass(frozen=True)
class ServicePace:
    """The service and the line to it.

    Attributes:
        quotas: Enqueued tokens that each deployment may hold, or None for no limit.
        turnaround: Minutes from a batch's creation to its end, at least.
        tokens_per_minute: Tokens that one deployment works off, or None for as many as there are.
        upload, download: Megabytes a second.
        poll: Seconds until an end is seen.
        files: Input files that may be at the service at once.
    """

    quotas: tuple[int | None, ...] = (None,)
    turnaround: float = 60.0
    tokens_per_minute: float | None = None
    upload: float = 25.0
    download: float = 25.0
    poll: float = 60.0
    files: int = 500


@dataclass(frozen=True)
class Forecast:
    """What a run comes to.

    Attributes:
        files: Input files, a batch each.
        first_created: Seconds until the first batch is created.
        last_ended: Seconds until the last one has ended.
        finished: Seconds until the table is published.
        engine: Seconds in which the engine itself worked.
        waited_for_room: Seconds that batches, one after the other, waited for room in a quota.
        at_once: The most batches at the service at the same time.
        longest: Minutes of the batch that took longest.
    """

    files: int
    first_created: float
    last_ended: float
    finished: float
    engine: float
    waited_for_room: float
    at_once: int
    longest: float

    @property
    def expires(self) -> bool:
        """Whether a batch takes longer than the completion window."""
        return self.longest > WINDOW_MINUTES


@dataclass
class _Deployment:
    """A deployment while the run goes on: what it holds, and when it is free to begin a batch."""

    quota: int | None
    held: int = 0
    free_at: float = 0.0
    ends: list[tuple[float, int]] = field(default_factory=list)

    def release(self, now: float) -> None:
        """Give back what batches that have ended held."""
        while self.ends and self.ends[0][0] <= now:
            self.held -= heapq.heappop(self.ends)[1]

    def has_room(self, tokens: int) -> bool:
        return self.quota is None or self.held + tokens <= self.quota

    def start(self, now: float, tokens: int, worked_off: float, service: ServicePace) -> float:
        """Take a batch in, and return when it ends."""
        rate = service.tokens_per_minute
        seconds = worked_off / rate * 60 if rate else 0.0
        self.free_at = max(now, self.free_at) + seconds
        end = max(now + service.turnaround * 60, self.free_at)
        self.held += tokens
        # Its tokens come back when its end is seen.
        heapq.heappush(self.ends, (end + service.poll, tokens))
        return end


def simulate(work: Work, engine: EnginePace, service: ServicePace) -> Forecast:
    """Work out what a run takes, file by file.

    Files are written, uploaded, downloaded and loaded one after the other, each of these while the
    others go on; a batch is created as soon as a deployment has room for it.
    """
    # The engine cuts its files by the smallest quota.
    quota = min((quota for quota in service.quotas if quota is not None), default=None)
    limits = limits_in_room(
        ServiceLimits(max_requests=FILE_REQUESTS, max_bytes=FILE_BYTES),
        Group(
            attempt=1,
            enlarge=1,
            requests=work.requests,
            weight=work.request_bytes,
            largest=-(-work.request_bytes // work.requests),
        ),
        None if quota is None else quota * BYTES_PER_TOKEN,
    )
    files = max(
        -(-work.requests // limits.max_requests), -(-work.request_bytes // limits.max_bytes)
    )
    share = work.times(1 / files)
    held = estimated_tokens(work.request_bytes // files)
    deployments = [_Deployment(quota) for quota in service.quotas]
    written = work.rows * engine.stage
    uploaded = waited = longest = first_created = 0.0
    ended: list[float] = []
    running: list[float] = []
    at_once = 0
    for _ in range(files):
        written += share.requests * engine.write
        uploaded = max(uploaded, written) + share.request_bytes / _MEGABYTE / service.upload
        created, deployment = _room(deployments, uploaded, held, running, service)
        waited += created - uploaded
        # The next file waits behind this one for its turn.
        uploaded = created
        tokens = share.input_tokens + share.output_tokens
        end = deployment.start(created, held, tokens, service)
        first_created = first_created or created
        longest = max(longest, (end - created) / 60)
        ended.append(end)
        heapq.heappush(running, end)
        at_once = max(at_once, len(running))
    downloaded = loaded = 0.0
    for end in sorted(ended):
        seen = end + service.poll
        downloaded = max(downloaded, seen) + share.response_bytes / _MEGABYTE / service.download
        loaded = max(loaded, downloaded) + share.requests * engine.load
    own = work.rows * (engine.stage + engine.publish) + work.requests * (engine.write + engine.load)
    return Forecast(
        files=files,
        first_created=first_created,
        last_ended=max(ended),
        finished=loaded + work.rows * engine.publish,
        engine=own,
        waited_for_room=waited,
        at_once=at_once,
        longest=longest,
    )


def _room(
    deployments: Sequence[_Deployment],
    now: float,
    tokens: int,
    running: list[float],
    service: ServicePace,
) -> tuple[float, _Deployment]:
    """Return when a batch can be created, and where: on the deployment that has least to do."""
    while True:
        for deployment in deployments:
            deployment.release(now)
        while running and running[0] + service.poll <= now:
            heapq.heappop(running)
        open_now = [one for one in deployments if one.has_room(tokens)]
        if open_now and len(running) < service.files:
            return now, min(open_now, key=lambda one: (one.free_at, one.held))
        coming = [one.ends[0][0] for one in deployments if one.ends]
        if len(running) >= service.files:
            coming.append(running[0] + service.poll)
        now = max(now, min(coming))


def duration(seconds: float) -> str:
    """Write a time as people say it.

    >>> duration(75), duration(3 * 3600), duration(50 * 3600)
    ('75 s', '3.0 h', '2.1 days')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def describe(forecast: Forecast) -> str:
    """Return a forecast as a table of two columns."""
    rows = [
        ("files, a batch each", f"{forecast.files:,}"),
        ("first batch created after", duration(forecast.first_created)),
        ("batches at the service at once, at most", f"{forecast.at_once:,}"),
        ("waited for room in a quota", duration(forecast.waited_for_room)),
        ("last batch ended after", duration(forecast.last_ended)),
        ("table published after", duration(forecast.finished)),
        ("of which the engine itself worked", duration(forecast.engine)),
    ]
    if forecast.expires:
        rows.append(("longest batch", f"{duration(forecast.longest * 60)}: longer than its window"))
    return table(("", "forecast"), rows)


def main(arguments: Iterable[str] | None = None) -> None:
    """Simulate a run of one's own."""
    usual = ServicePace()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--requests", type=int, help="fewer than rows where they are packed")
    parser.add_argument("--megabytes", type=float, required=True, help="of the input files")
    parser.add_argument("--response-megabytes", type=float, help="of the output files")
    parser.add_argument("--input-tokens", type=int, required=True)
    parser.add_argument("--output-tokens", type=int, required=True)
    parser.add_argument(
        "--quota", type=int, action="append", help="enqueued tokens; once for each deployment"
    )
    parser.add_argument("--turnaround", type=float, default=usual.turnaround, help="minutes")
    parser.add_argument("--tokens-per-minute", type=float, help="that a deployment works off")
    parser.add_argument("--upload", type=float, default=usual.upload, help="MB/s")
    parser.add_argument("--download", type=float, default=usual.download, help="MB/s")
    parser.add_argument("--files", type=int, default=usual.files, help="at the service at once")
    given = parser.parse_args(None if arguments is None else list(arguments))
    if given.rows < 1 or given.megabytes <= 0:
        parser.error("there must be at least one row, and its bytes")
    work = Work(
        rows=given.rows,
        requests=given.requests or given.rows,
        request_bytes=round(given.megabytes * _MEGABYTE),
        # An answer's line is about as long as four bytes a token and its frame of 700 bytes.
        response_bytes=round(given.response_megabytes * _MEGABYTE)
        if given.response_megabytes
        else given.output_tokens * 4 + (given.requests or given.rows) * 700,
        input_tokens=given.input_tokens,
        output_tokens=given.output_tokens,
    )
    service = replace(
        usual,
        quotas=tuple(given.quota) if given.quota else (None,),
        turnaround=given.turnaround,
        tokens_per_minute=given.tokens_per_minute,
        upload=given.upload,
        download=given.download,
        files=given.files,
    )
    print(describe(simulate(work, EnginePace(), service)))


if __name__ == "__main__":
    main()
