"""What the commands take where nothing is named: collections to review and export, the model to generate with."""

import pytest

from luthier.curation.v1 import curation_pb2 as curation
from luthier.inference.v1 import inference_pb2 as inference
from luthier_pipeline.arguments import parser
from luthier_pipeline.commands.context import Context, UsageError
from luthier_pipeline.commands.curate import export, review
from luthier_pipeline.commands.models import generate_request


class Service:
    """Answers each method with the next of its answers and keeps what was asked."""

    def __init__(self, **answers):
        self.answers = {method: iter(given) for method, given in answers.items()}
        self.asked = []

    def call(self, method, request, **_):
        kept = type(request)()
        kept.CopyFrom(request)
        self.asked.append((method, kept))
        return next(self.answers[method])


def context(line, **services):
    return Context(parser().parse_args(line.split()), services)


def pages(*names):
    """One clip of each collection, a clip a page."""
    return [
        curation.ListClipsResponse(
            clips=[curation.CuratedClip(collection=name)], next_page_token="" if name == names[-1] else name
        )
        for name in names
    ]


def test_review_takes_every_collection_where_none_is_named(capsys):
    answers = [curation.ReviewClipsResponse(changed=n, batch_id=f"b{n}") for n in (2, 3)]
    service = Service(ListClips=pages("jazz", "rock"), ReviewClips=answers)
    review(context("review --accept checked --as ann --json", curation=service))
    reviewed = [request for method, request in service.asked if method == "ReviewClips"]
    assert [request.filter.collection for request in reviewed] == ["jazz", "rock"]
    assert all(request.automatic and request.filter.checked for request in reviewed)
    assert '"changed": 5' in capsys.readouterr().out


def test_export_takes_the_only_collection_and_asks_where_there_are_several():
    service = Service(ListClips=pages("jazz"), ExportDataset=[curation.ExportDatasetResponse(name="jazz", version=1)])
    export(context("export --as ann", curation=service))
    assert service.asked[-1][1].collection == "jazz"
    with pytest.raises(UsageError, match="jazz, rock"):
        export(context("export --as ann", curation=Service(ListClips=pages("jazz", "rock"))))


@pytest.mark.parametrize(
    ("default", "models", "chosen"),
    [
        ("", [("base", 1, 10, ""), ("tuned", 1, 20, ""), ("served", 2, 15, "evaluation-1")], "served@2"),
        ("", [("base", 1, 10, ""), ("tuned", 1, 20, "")], "tuned@1"),
        ("base", [("base", 1, 10, ""), ("tuned", 1, 20, "")], ""),
        ("", [], ""),
    ],
)
def test_generate_asks_the_servers_default_else_what_was_promoted_last_else_the_newest(default, models, chosen):
    answer = inference.ListModelsResponse(default_model=default)
    for name, version, at, evaluation in models:
        answer.models.add(name=name, version=version, evaluation_id=evaluation).created_at.seconds = at
    asked = context("generate song --out x.wav", inference=Service(ListModels=[answer]))
    assert generate_request(asked, inference.OUTPUT_FORMAT_WAV).model == chosen
