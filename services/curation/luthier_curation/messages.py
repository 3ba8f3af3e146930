"""Between the contract's messages and the domain's dictionaries."""

from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message

from luthier.common.v1.common_pb2 import ClipFacts, ClipSource, Prompt, Tag
from luthier.curation.v1 import curation_pb2 as pb
from luthier_curation.content import Json, NewClip, by_person, person_instruments
from luthier_curation.exports import Export
from luthier_curation.listing import ClipFilter
from luthier_curation.refs import ref_to_dict, to_ref
from luthier_curation.reviews import Edit
from luthier_curation.splits import Fractions
from luthier_curation.tables import ACCEPTED, OPEN, REJECTED, ClipRow

VERDICTS = {
    pb.VERDICT_UNSPECIFIED: "",
    pb.VERDICT_OPEN: OPEN,
    pb.VERDICT_ACCEPTED: ACCEPTED,
    pb.VERDICT_REJECTED: REJECTED,
}
VERDICT_NUMBERS = {name: number for number, name in VERDICTS.items()}


def to_dict(message: Message) -> Json:
    """A message in protobuf's JSON form with the names of the .proto file."""
    return MessageToDict(message, preserving_proto_field_name=True)


def to_new_clip(message: pb.NewClip) -> NewClip:
    """A clip of a request."""
    lineage = to_dict(message.lineage)
    if message.lineage.seed:
        lineage["seed"] = message.lineage.seed
    return NewClip(
        source=to_dict(message.source),
        audio=ref_to_dict(message.audio),
        facts=to_dict(message.facts),
        tags=[to_dict(tag) for tag in message.tags],
        prompts=[to_dict(prompt) for prompt in message.prompts],
        lineage=lineage,
    )


def to_filter(message: pb.ClipFilter) -> ClipFilter:
    """A filter of a request."""
    return ClipFilter(
        collection=message.collection,
        verdict=VERDICTS.get(message.verdict, str(message.verdict)),
        checked=message.checked if message.HasField("checked") else None,
        text=message.text,
        instrument=message.instrument,
        song_fingerprint=message.song_fingerprint,
        min_tempo_bpm=message.min_tempo_bpm if message.HasField("min_tempo_bpm") else None,
        max_tempo_bpm=message.max_tempo_bpm if message.HasField("max_tempo_bpm") else None,
    )


def to_edit(message: pb.UpdateClipRequest) -> Edit:
    """An edit of a request; the tempo and key that it gives are a person's."""
    return Edit(
        prompts=list(message.prompts) or None,
        instruments=person_instruments([(fact.instrument, fact.share) for fact in message.instruments.instruments])
        if message.HasField("instruments")
        else None,
        tempo=by_person(to_dict(message.tempo)) if message.HasField("tempo") else None,
        key=by_person(to_dict(message.key)) if message.HasField("key") else None,
        remark=message.remark if message.HasField("remark") else None,
    )


def to_fractions(message: pb.ExportDatasetRequest) -> Fractions:
    """Shares of a request; absent is a tenth."""
    standard = Fractions()
    validation = message.validation_share if message.HasField("validation_share") else standard.validation
    test = message.test_share if message.HasField("test_share") else standard.test
    return Fractions.holding_out(validation, test)


def to_curated_clip(row: ClipRow) -> pb.CuratedClip:
    """A clip for a response."""
    clip = pb.CuratedClip(
        clip_id=row.clip_id,
        collection=row.collection,
        source=ParseDict(row.source, ClipSource(), ignore_unknown_fields=True),
        audio=to_ref(row.audio),
        facts=ParseDict(row.facts, ClipFacts(), ignore_unknown_fields=True),
        tags=[ParseDict(tag, Tag(), ignore_unknown_fields=True) for tag in row.tags],
        prompts=[ParseDict(prompt, Prompt(), ignore_unknown_fields=True) for prompt in row.prompts],
        verdict=VERDICT_NUMBERS[row.verdict],
        reviewer=row.reviewer,
        automatic=row.automatic,
        revision=row.revision,
        edited_fields=row.edited_fields,
        remark=row.remark,
    )
    clip.updated_at.FromMilliseconds(row.updated_at_ms)
    return clip


def to_export_response(export: Export, fractions: Fractions) -> pb.ExportDatasetResponse:
    """A data set for a response, with the shares that took effect."""
    return pb.ExportDatasetResponse(
        manifest=to_ref(export.manifest),
        name=export.name,
        version=export.version,
        splits=[
            pb.SplitSummary(
                split=summary.split,
                songs=summary.songs,
                clips=summary.clips,
                duration_s=summary.duration_s,
                metadata=to_ref(summary.metadata),
            )
            for summary in export.splits
        ],
        download_path=export.download_path,
        unchanged=export.unchanged,
        validation_share=fractions.validation,
        test_share=fractions.test,
    )
