"""luthier.enrichment.v1.EnrichmentService: messages to domain calls and back."""

from collections.abc import Mapping

import grpc

from luthier.common.v1 import common_pb2
from luthier.enrichment.v1 import enrichment_pb2, enrichment_pb2_grpc
from luthier_enrichment.enrich import Enriched, cleaned, enrich
from luthier_enrichment.findings import Finding, Reason, State
from luthier_enrichment.names import Name
from luthier_enrichment.providers.base import Provider
from luthier_enrichment.providers.file import FileProvider
from luthier_enrichment.providers.own import OwnProvider
from luthier_enrichment.sheet import MAX_BYTES, SheetCache
from luthier_kit.rpc import Checks, Configuration, in_field
from luthier_kit.store import Action, Store, digest_of
from luthier_music.vocabulary import KINDS, clean

STAGE_VERSION = "2"
MAX_PATH_CHARS, MAX_NAME_CHARS, MAX_PROVIDERS, MAX_TAGS, MAX_TAG_CHARS = 1024, 200, 32, 100, 64
_REASONS = {
    Reason.VOCAL: enrichment_pb2.DROP_REASON_VOCAL,
    Reason.NOISE: enrichment_pb2.DROP_REASON_NOISE,
    Reason.NAME: enrichment_pb2.DROP_REASON_NAME,
}


class _IncompleteError(Exception):
    """Carries an answer that must not be remembered, past the store."""

    def __init__(self, response: enrichment_pb2.EnrichSongResponse) -> None:
        super().__init__("a provider failed for now")
        self.response = response


class EnrichmentServicer(enrichment_pb2_grpc.EnrichmentServiceServicer):
    """Serves the providers of this server over a store that remembers complete answers."""

    def __init__(self, store: Store, providers: Mapping[str, Provider], min_score: float, max_age_s: float) -> None:
        self._store, self._providers = store, providers
        self._min_score, self._max_age_s = min_score, max_age_s
        self._sheets = SheetCache()

    @property
    def configuration(self) -> Configuration:
        """What decides the answers beside the request. Those of providers elsewhere change by themselves."""
        own = {"version": STAGE_VERSION, "min_score": self._min_score, "providers": _versions(self._providers)}
        return Configuration(
            digest_of(own), ages=any(p.is_remote and not p.off_because() for p in self._providers.values())
        )

    def EnrichSong(
        self, request: enrichment_pb2.EnrichSongRequest, _: grpc.ServicerContext
    ) -> enrichment_pb2.EnrichSongResponse:
        self._check(request)
        song = Name(request.song.artist, request.song.title)
        asked = self._asked(request)
        remote = any(p.is_remote and not p.off_because() for p in asked.values())
        try:
            response, _reused = self._store.actions.run(
                self._action(request, cleaned(song, request.path), asked),
                enrichment_pb2.EnrichSongResponse,
                lambda: _complete(enrich(song, request.path, asked), asked),
                max_age_s=self._max_age_s if remote else None,
            )
        except _IncompleteError as incomplete:
            return incomplete.response
        return response

    def ListProviders(
        self, _request: enrichment_pb2.ListProvidersRequest, _: grpc.ServicerContext
    ) -> enrichment_pb2.ListProvidersResponse:
        return enrichment_pb2.ListProvidersResponse(
            providers=[
                enrichment_pb2.ProviderStatus(
                    provider=name,
                    state=enrichment_pb2.PROVIDER_STATE_OFF
                    if (reason := provider.off_because())
                    else enrichment_pb2.PROVIDER_STATE_UNSPECIFIED,
                    message=reason,
                    licence=provider.licence,
                )
                for name, provider in self._providers.items()
            ]
        )

    def _check(self, request: enrichment_pb2.EnrichSongRequest) -> None:
        checks = Checks()
        checks.text("song.artist", request.song.artist, max_chars=MAX_NAME_CHARS)
        checks.text("song.title", request.song.title, max_chars=MAX_NAME_CHARS)
        checks.text("path", request.path, max_chars=MAX_PATH_CHARS)
        named = cleaned(Name(request.song.artist, request.song.title), request.path)
        checks.that(bool(named.title), "song.title", "must name a song, here or by path")
        for field, name in checks.items("providers", request.providers, 0, MAX_PROVIDERS):
            checks.one_of(field, name, self._providers)
        for field, tag in checks.items("tags", request.tags, 0, MAX_TAGS):
            checks.text(f"{field}.text", tag.text, max_chars=MAX_TAG_CHARS, blank=False)
            checks.that(tag.kind in ("", *KINDS), f"{field}.kind", f"must be empty or one of {', '.join(KINDS)}")
            checks.within(f"{field}.weight", tag.weight, 0, 1)
            checks.text(f"{field}.source", tag.source, max_chars=MAX_TAG_CHARS)
            checks.text(f"{field}.licence", tag.licence, max_chars=MAX_NAME_CHARS)
        if request.HasField("sheet"):
            checks.artifact("sheet", request.sheet, max_bytes=MAX_BYTES)
        checks.done()

    def _asked(self, request: enrichment_pb2.EnrichSongRequest) -> dict[str, Provider]:
        """The providers of this request, with its own sheet where it brings one."""
        asked = {name: p for name, p in self._providers.items() if not request.providers or name in request.providers}
        if request.HasField("sheet") and "file" in asked:
            digest = request.sheet.sha256
            with in_field("sheet"):
                self._store.blobs.exists(request.sheet)  # refuses a bad reference, also to a sheet that is held already
                sheet = self._sheets.get(digest, lambda: self._store.blobs.read(request.sheet, max_bytes=MAX_BYTES))
            asked["file"] = FileProvider(sheet, digest, self._min_score)
        if request.tags:
            asked[OwnProvider.name] = OwnProvider(request.tags)
        return asked

    def _action(self, request: enrichment_pb2.EnrichSongRequest, song: Name, asked: Mapping[str, Provider]) -> Action:
        return Action(
            stage="enrich",
            inputs=[request.sheet.sha256] if request.HasField("sheet") else [],
            parameters={"artist": song.artist, "title": song.title, "path": request.path, "min_score": self._min_score},
            version=STAGE_VERSION,
            tools=_versions(asked),
        )


def _versions(providers: Mapping[str, Provider]) -> dict[str, str]:
    """Versions of providers; of those that are off the reason."""
    return {name: f"off: {why}" if (why := p.off_because()) else p.version for name, p in providers.items()}


def _complete(enriched: Enriched, asked: Mapping[str, Provider]) -> enrichment_pb2.EnrichSongResponse:
    response = _response(enriched, asked)
    if not enriched.is_complete:
        raise _IncompleteError(response)
    return response


def _response(enriched: Enriched, asked: Mapping[str, Provider]) -> enrichment_pb2.EnrichSongResponse:
    tags = [
        common_pb2.Tag(text=t.text, kind=t.kind, weight=t.weight, source=t.source, licence=t.licence)
        for t in enriched.merged.tags
    ]
    facts = [
        enrichment_pb2.ReleaseFact(name=f.name, value=f.value, source=f.source, licence=f.licence)
        for f in enriched.facts
    ]
    return enrichment_pb2.EnrichSongResponse(
        tags=tags,
        facts=facts,
        providers=[_status(name, finding, asked[name].licence) for name, finding in enriched.findings.items()],
        dropped_vocal_tags=enriched.merged.dropped_vocal_tags,
        dropped=[
            enrichment_pb2.DroppedTag(text=gone.text, reason=_REASONS[gone.reason], source=gone.source)
            for gone in enriched.merged.dropped
        ],
        song=_name(enriched.song),
    )


def _status(provider: str, finding: Finding, licence: str) -> enrichment_pb2.ProviderStatus:
    states = {
        State.MATCHED: enrichment_pb2.PROVIDER_STATE_MATCHED,
        State.NO_MATCH: enrichment_pb2.PROVIDER_STATE_NO_MATCH,
        State.OFF: enrichment_pb2.PROVIDER_STATE_OFF,
        State.FAILED: enrichment_pb2.PROVIDER_STATE_FAILED,
    }
    return enrichment_pb2.ProviderStatus(
        provider=provider,
        state=states[finding.state],
        message=finding.message,
        match_score=finding.score,
        matched=_name(finding.matched),
        licence=licence,
    )


def _name(name: Name) -> common_pb2.SongName:
    return common_pb2.SongName(artist=clean(name.artist, MAX_NAME_CHARS), title=clean(name.title, MAX_NAME_CHARS))
