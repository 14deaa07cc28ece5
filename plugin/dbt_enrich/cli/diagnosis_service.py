"""What `dbt-enrich doctor` finds at the service, by calls that list and describe alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import click

from dbt_enrich.buckets.blob_address import BlobAddresses, is_blob
from dbt_enrich.cli.findings import Finding, of_error
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.bucket_address import BucketAddress
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import AuthenticationError, EnrichmentError, NotFoundError, ServiceError
from dbt_enrich.extras import Extra
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.services import BatchService, create_service
from dbt_enrich.services.probe import no_batch_api
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.run import existing_ledger
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.wording import counted

_NEARLY = 0.9
# An examination is over soon, also where there is no answer.
_SECONDS = 30.0
_RETRIES = 1
# What the service says of a batch whose blob it may not read.
_NO_PERMISSION = "input_no_permissions"


def service_findings(config: PluginConfig, models: tuple[str, ...]) -> Iterator[Finding]:
    """Look at the service: endpoint, key, deployments and quotas.

    Args:
        config: The plugin's configuration.
        models: Logical models whose deployments are looked at; the profile's if empty.
    """
    try:
        config.check()
    except EnrichmentError as error:
        yield of_error("service", error)
        return
    if config.extra is not None:
        extra = _extra(config, config.extra)
        yield extra
        if extra.verdict == "wrong":
            return
    try:
        if config.facts.runs_here and not config.state_dir.expanduser().exists():
            # The emulator would make it, but readable by others.
            StateDirectory(config.state_dir).made()
        service = create_service(_impatient(config), say=partial(click.echo, err=True))
    except EnrichmentError as error:
        yield of_error("service", error)
        return
    with closing(service):
        reached = list(_reached(service, config))
        yield from reached
        if any(finding.verdict == "wrong" for finding in reached):
            return
        deployments = _deployments(config, models, service.service_id)
        if not deployments:
            yield _none_named(config)
        for deployment in deployments:
            yield _checked(service, deployment)
            yield _room(config, service.service_id, deployment)
        if not config.facts.runs_here:
            yield _place(service, config)


def _extra(config: PluginConfig, extra: Extra) -> Finding:
    subject = f"extra {extra}"
    try:
        config.check_installed()
    except EnrichmentError as error:
        return of_error(subject, error)
    return Finding(subject, "ok", "installed")


def _impatient(config: PluginConfig) -> PluginConfig:
    patience: dict[str, Any] = {
        "timeout": min(config.timeout, _SECONDS),
        "max_retries": min(config.max_retries, _RETRIES),
        # The bucket has findings of its own.
        "state": None,
    }
    if config.sends_blobs:
        patience["batch_input"] = "upload"
    return config.model_copy(update=patience)


def _reached(service: BatchService, config: PluginConfig) -> Iterator[Finding]:
    answers = Finding("endpoint", "ok", f"{service.service_id} answers")
    remote = config if isinstance(config, RemoteConfig) else None
    who = "token" if remote and remote.sign_in else "key"
    try:
        next(iter(service.batches()), None)
    except AuthenticationError as error:
        # Without a status it was the sign-in that failed, before the endpoint was asked.
        if error.status is not None:
            yield answers
        yield of_error(who, error)
        return
    except NotFoundError as error:
        yield of_error("endpoint", no_batch_api(remote, error) if remote else error)
        return
    except EnrichmentError as error:
        yield of_error("endpoint", error)
        return
    yield answers
    if remote:
        yield Finding(who, "ok", "accepted")


def _deployments(config: PluginConfig, models: tuple[str, ...], service: str) -> list[str]:
    """Return the deployments to look at: of the models, of the profile, else those used before."""
    if models:
        named = [name for model in models for name in config.deployments.get(model, (model,))]
    else:
        named = [name for names in config.deployments.values() for name in names]
    if not named:
        shards = _used_before(config)
        named = [s.deployment for s in shards if s.deployment and s.service == service]
    return list(dict.fromkeys(named))


def _used_before(config: PluginConfig) -> list[Shard]:
    try:
        with existing_ledger(config) or nullcontext() as ledger:
            return ledger.shards.all() if ledger else []
    except EnrichmentError:
        # It has a finding of its own.
        return []


def _none_named(config: PluginConfig) -> Finding:
    found = f"{config.place.name} names none, so the models' own names are used"
    if not config.facts.has_deployments:
        return Finding("deployments", "ok", found)
    fix = "name them under deployments, or a model by --model to have it looked at"
    return Finding("deployments", "warning", found, fix)


def _checked(service: BatchService, deployment: str) -> Finding:
    subject = f"deployment {deployment}"
    try:
        service.check(deployment)
    except EnrichmentError as error:
        return of_error(subject, error)
    return Finding(subject, "ok", "is there and takes batches, as far as the service tells")


def _room(config: PluginConfig, service: str, deployment: str) -> Finding:
    """Say how many tokens a deployment's batches may hold, and how many ours hold now."""
    subject = f"quota of {deployment}"
    limit, held = config.token_limit(deployment), 0
    newcomer = Shard("", Step.CLAIMED, None, "", service, "", deployment=deployment)
    try:
        with existing_ledger(config) or nullcontext() as ledger:
            if ledger:
                room = TokenRoom(ledger, config.token_limit)
                limit = room.limit(service, deployment)
                held = room.held_by_others(newcomer)
    except EnrichmentError as error:
        found = f"not known, as the ledger fails: {error.problem}"
        return Finding(subject, "warning", found, error.fix or "repair the ledger")
    source = "configured" if config.token_limit(deployment) else "learned from the service"
    known = f"{limit:,} enqueued tokens, {source}" if limit else "not known until a batch tells it"
    return Finding(subject, "ok", f"{known}; our batches hold about {held:,} tokens now")


def _place(service: BatchService, config: PluginConfig) -> Finding:
    """Look at where the files of batches go."""
    if config.sends_blobs and config.container:
        return _container(config, config.container)
    return _files(service, config)


def _container(config: PluginConfig, container: BucketAddress) -> Finding:
    """Say whether the service may read and write the container, as far as batches have shown it."""
    subject = "service and container"
    fix = (
        f"give the system-assigned identity of {config.service_id.partition(':')[2]} the role "
        "Storage Blob Data Contributor on the container; the first batch shows whether it has it, "
        "and costs nothing where it has not"
    )
    try:
        base = BlobAddresses(container).base
    except EnrichmentError as error:
        return of_error(subject, error)
    shards = [s for s in _used_before(config) if s.service == config.service_id]
    for shard in sorted(shards, key=lambda shard: shard.updated_at, reverse=True):
        if shard.step is Step.STORED and is_blob(shard.output_file_id or ""):
            found = f"batch {shard.batch_id} read its requests below {base} and wrote its answers"
            return Finding(subject, "ok", found)
        if shard.step is Step.RELEASED and _NO_PERMISSION in (shard.error or "").lower():
            found = f"the service could not read the requests of {shard.shard} below {base}"
            return Finding(subject, "wrong", found, fix)
    return Finding(subject, "warning", f"no batch has read or written {base} so far", fix)


def _files(service: BatchService, config: PluginConfig) -> Finding:
    try:
        files = list(service.files())
    except ServiceError as error:
        return replace(of_error("file quota", error), verdict="warning")
    most, most_lasting = config.facts.max_files, config.facts.max_lasting_files
    if not most:
        size = sum(file.bytes or 0 for file in files) / 1e6
        return Finding("file quota", "ok", f"{counted(len(files), 'input file')} of {size:,.1f} MB")
    lasting = sum(file.expires_at is None for file in files)
    found = (
        f"{len(files):,} of {most:,} input files, {lasting:,} of {most_lasting:,} without expiry"
    )
    shares = {True: len(files) / most, False: lasting / most_lasting}
    fix = "delete input files of the resource that no batch needs any more"
    if not config.sends_expiry:
        fix += ", and have new ones expire by file_expiry_days: 14 to 30"
    if shares[config.sends_expiry] >= 1:
        return Finding("file quota", "wrong", f"{found}: no more can be uploaded", fix)
    if max(shares.values()) >= _NEARLY:
        return Finding("file quota", "warning", found, fix)
    return Finding("file quota", "ok", found)
