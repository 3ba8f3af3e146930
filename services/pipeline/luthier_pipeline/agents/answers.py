"""What the tools answer, as agents read it: each model is a tool's output schema."""

from typing import Final

from pydantic import BaseModel, Field

from luthier.curation.v1.curation_pb2 import CuratedClip, Verdict
from luthier.inference.v1.inference_pb2 import (
    CredentialsFinding,
    CredentialsTrust,
    DetectMarksResponse,
    GenerateResponse,
    Model,
    Usage,
)
from luthier_kit.rpc import InvalidRequest, LuthierError, retry_after_s
from luthier_music.key_facts import key_of

NOT_CONFIGURED: Final = "NOT_CONFIGURED"


class Heard(BaseModel):
    """Whether the audio is as a field of music asked for."""

    field: str
    asked: str
    heard: str = Field(description="empty = it was not measured, and note says why")
    obeyed: bool | None = Field(description="null = it was not measured")
    note: str


class Generated(BaseModel):
    """Audio that was made."""

    path: str = Field(description="the audio file on this machine")
    seconds: float
    prompt: str = Field(description="as it took effect, completed by the fields of music")
    model: str
    model_digest: str
    seed: str = Field(description="64 bits: ask with it again, and the audio is the same")
    reused: bool = Field(description="true = it had been made before")
    heard: list[Heard]
    notes: list[str]
    advice: list[str] = Field(description="what the prompt asks for that the model hardly heard in training")
    record: str = Field(description="key of the record that leads to everything behind the audio: luthier lineage KEY")


class Version(BaseModel):
    """A registered version of a model."""

    model: str = Field(description="what generate takes as model")
    loaded: bool = Field(description="true = it answers without being loaded first")
    longest_s: float = Field(description="the most seconds that it makes; 0 = its configuration cannot be read")
    sample_rate_hz: int
    dataset: str
    reason: str = Field(description="why it was registered or promoted")


class Models(BaseModel):
    """Every registered version, the newest of a name first."""

    models: list[Version]
    default: str = Field(description="model of requests that name none; empty = there is none, name one")


class Clip(BaseModel):
    """A captioned clip of a collection."""

    clip_id: str
    collection: str
    artist: str
    title: str
    seconds: float
    prompts: list[str]
    tempo_bpm: float | None
    key: str | None
    instruments: list[str]
    tags: list[str]
    verdict: str
    audio_key: str = Field(description="key of the audio in the store")


class Clips(BaseModel):
    """A page of clips."""

    clips: list[Clip]
    total: int
    more_than_total: bool = Field(description="true = counting ended there")
    next_page_token: str = Field(description="ask with it for the next page; empty = this is the last")


class Verified(BaseModel):
    """What a file says of what made it."""

    finding: str = Field(description="intact, changed, none or unreadable: its content credentials")
    made_by_model: bool
    issuer: str = Field(description="who signed, by the certificate's own word")
    trust: str = Field(
        description="trusted, not_listed, expired or unfit, by the service's list; not_asked = it has none"
    )
    stamped_at: str = Field(description="when it was signed, by a time stamp, ISO 8601; empty = there is none")
    time_authority: str = Field(description="who states that time, by its certificate's own word")
    model: str
    model_digest: str
    seed: str
    record: str
    faults: list[str]
    output_key: str = Field(
        description="key of the output of this installation with these bytes; empty = none has them"
    )


class Spent(BaseModel):
    """What this caller had of its quotas today, and may have (null = any)."""

    caller: str
    calls: int
    max_calls: int | None
    audio_seconds: float
    max_audio_seconds: float | None
    steps: int
    max_steps: int | None
    renewed_at: str = Field(description="UTC")


class Refusal(BaseModel):
    """Why a tool did not do what was asked."""

    reason: str = Field(description="stable, UPPER_SNAKE")
    message: str
    violations: list[str] = Field(description="fields that are wrong, with their bounds")
    retry_after_s: float | None = Field(description="when to ask again, seconds; null = asking again does not help")
    metadata: dict[str, str]

    @classmethod
    def of(cls, error: Exception) -> "Refusal":
        if not isinstance(error, LuthierError):
            text = f"luthier mcp is not configured for this: {error}"
            return cls(reason=NOT_CONFIGURED, message=text, violations=[], retry_after_s=None, metadata={})
        violations = error.violations if isinstance(error, InvalidRequest) else ()
        return cls(
            reason=error.reason,
            message=error.public or str(error),
            violations=[f"{field} {bound}" for field, bound in violations],
            retry_after_s=retry_after_s(error),
            metadata=dict(error.metadata),
        )

    def text(self) -> str:
        """For agents that read text alone."""
        lines = [f"{self.reason}: {self.message}"]
        lines += [violation for violation in self.violations if violation not in self.message]
        if self.retry_after_s is not None:
            lines.append(f"Ask again in {self.retry_after_s:.0f} s.")
        return "\n".join(lines)


def generated(response: GenerateResponse, path: str) -> Generated:
    """A response whose audio is at `path`."""
    return Generated(
        path=path,
        seconds=response.samples / response.sample_rate_hz,
        prompt=response.prompt,
        model=response.model,
        model_digest=response.model_digest,
        seed=str(response.seed),
        reused=response.action.reused,
        heard=[
            Heard(
                field=each.field, asked=each.asked, heard=each.heard,
                obeyed=each.obeyed if each.HasField("obeyed") else None, note=each.note,
            )
            for each in response.heard
        ],
        notes=list(response.notes),
        advice=[f"{each.subject} {each.asked}: {each.heard_s / 60:.1f} min in training" for each in response.advice],
        record=response.action.action_key,
    )  # fmt: skip


def version(model: Model) -> Version:
    return Version(
        model=f"{model.name}@{model.version}",
        loaded=model.loaded,
        longest_s=model.window_s,
        sample_rate_hz=model.sample_rate_hz,
        dataset=model.dataset,
        reason=model.reason,
    )


def clip(found: CuratedClip) -> Clip:
    facts = found.facts
    key = key_of(facts.key)
    return Clip(
        clip_id=found.clip_id,
        collection=found.collection,
        artist=found.source.song.artist,
        title=found.source.song.title,
        seconds=facts.duration_s,
        prompts=[prompt.text for prompt in found.prompts],
        tempo_bpm=facts.tempo.tempo_bpm or None,
        key=str(key) if key else None,
        instruments=[each.instrument for each in facts.instruments],
        tags=[tag.text for tag in found.tags],
        verdict=Verdict.Name(found.verdict).removeprefix("VERDICT_").lower(),
        audio_key=found.audio.key,
    )


def verified(response: DetectMarksResponse) -> Verified:
    found = response.credentials
    return Verified(
        finding=CredentialsFinding.Name(found.finding).removeprefix("CREDENTIALS_FINDING_").lower(),
        made_by_model=found.made_by_model,
        issuer=found.issuer,
        trust=CredentialsTrust.Name(found.trust).removeprefix("CREDENTIALS_TRUST_").lower(),
        stamped_at=found.stamped_at.ToJsonString() if found.HasField("stamped_at") else "",
        time_authority=found.time_authority,
        model=found.model,
        model_digest=found.model_digest,
        seed=found.seed,
        record=found.action_key,
        faults=list(found.faults),
        output_key=response.output_key,
    )


def spent(usage: Usage, renewed_at: str) -> Spent:
    return Spent(
        caller=usage.caller,
        calls=usage.calls,
        max_calls=usage.max_calls if usage.HasField("max_calls") else None,
        audio_seconds=usage.audio_seconds,
        max_audio_seconds=usage.max_audio_seconds if usage.HasField("max_audio_seconds") else None,
        steps=usage.steps,
        max_steps=usage.max_steps if usage.HasField("max_steps") else None,
        renewed_at=renewed_at,
    )
