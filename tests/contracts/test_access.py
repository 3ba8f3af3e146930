"""Each component's own key of the bucket: what it needs is allowed by its policy, what others write is refused.

The policies are those of deploy/store, on a real MinIO.
"""

import json
import runpy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from minio import MinioAdmin
from minio.credentials.providers import StaticProvider

from luthier.rendering.v1.rendering_pb2 import RenderSongResponse
from luthier_kit.rpc import DataLoss, NotFound, PermissionDenied, Unavailable, status_of
from luthier_kit.store import Action, Endpoint, S3Store, Store
from tests.support.services import ROOT
from tests.support.stores import damage

FOLDER = ROOT / "deploy/store"
TABLE: dict[str, dict[str, list[str]]] = json.loads((FOLDER / "access.json").read_text())
EVERYBODY = TABLE.pop("all")
POLICIES: Callable[..., dict[str, Any]] = runpy.run_path(str(FOLDER / "policies.py"))["policies"]
BUCKET = "own-keys"
SECRET = "a secret of the tests"
PREFIXES = sorted({prefix for row in TABLE.values() for column in ("reads", "writes", "deletes")
                   for prefix in row.get(column, []) if prefix} | {"tombstones/"})  # fmt: skip


def name_of(component: str) -> str:
    return f"test-{component}"  # an access key has three characters at least


@pytest.fixture(scope="module")
def with_keys(minio: Endpoint) -> Endpoint:
    """A proven bucket, and a user for each component."""
    admin = MinioAdmin(
        endpoint=minio.host, credentials=StaticProvider(minio.access_key, minio.secret_key), secure=False
    )
    for component, policy in POLICIES(BUCKET).items():
        admin.policy_add(name_of(component), policy=policy)
        admin.user_add(name_of(component), SECRET)
        admin.policy_set(name_of(component), user=name_of(component))
    Store(S3Store(minio, BUCKET)).prove(create_bucket=True)
    return minio


def opened(endpoint: Endpoint, component: str) -> Store:
    """The store as the component opens it, with its own key."""
    objects = S3Store(replace(endpoint, access_key=name_of(component), secret_key=SECRET), BUCKET)
    store = Store(objects)
    store.prove(create_bucket=False, expected=True)
    return store


def allowed(component: str, column: str, key: str) -> bool:
    """What the table says; whoever writes reads it back."""
    columns = ("reads", "writes") if column == "reads" else (column,)
    rows = (TABLE[component], EVERYBODY)
    return any(key.startswith(prefix) for row in rows for name in columns for prefix in row.get(name, []))


def is_done(call: Callable[[], object]) -> bool:
    """Whether the store lets this key do it."""
    try:
        call()
    except (Unavailable, PermissionDenied) as refused:
        if refused.reason not in {"STORE_CREDENTIALS_REFUSED", "STORE_ACCESS_DENIED"}:
            raise
        return False
    return True


@pytest.mark.parametrize("component", TABLE)
def test_a_key_reads_writes_and_deletes_what_the_table_says_and_nothing_else(
    with_keys: Endpoint, component: str
) -> None:
    objects, root = opened(with_keys, component).objects, S3Store(with_keys, BUCKET)
    for prefix in PREFIXES:
        key = f"{prefix}there-{component}.json"
        root.create(key, b"x")
        assert is_done(lambda: objects.get(key, 10)) == allowed(component, "reads", key), key  # noqa: B023
        assert is_done(lambda: objects.delete(key)) == allowed(component, "deletes", key), key  # noqa: B023
        new = f"{prefix}new-{component}.json"
        assert is_done(lambda: objects.create(new, b"x")) == allowed(component, "writes", new), new  # noqa: B023
        assert is_done(lambda: list(objects.keys(prefix)))  # noqa: B023  # names are digests


def test_what_a_caller_names_outside_a_services_prefixes_is_denied_for_good(with_keys: Endpoint) -> None:
    checkpoint = Store(S3Store(with_keys, BUCKET)).blobs.put_bytes("checkpoints", b"weights", "bin")
    rendering = opened(with_keys, "rendering")
    reads: list[Callable[[], object]] = [
        lambda: rendering.blobs.read(checkpoint),
        lambda: rendering.blobs.exists(checkpoint),
        lambda: rendering.objects.get("checkpoints/none.bin", 10),
    ]
    for read in reads:
        with pytest.raises(PermissionDenied) as denied:
            read()
        assert denied.value.reason == "STORE_ACCESS_DENIED"
        told = status_of(denied.value, "rendering")
        assert "does not let this service read checkpoints/" in told.message
        assert with_keys.host not in told.message
        assert SECRET not in f"{denied.value} {told}"


def test_every_key_honours_a_takedown(with_keys: Endpoint) -> None:
    root = Store(S3Store(with_keys, BUCKET))
    down = root.blobs.put_bytes("clips", b"of a composer who asked", "flac")
    root.blobs.take_down(down.sha256, by="ann", reason="claim 7")
    for component in TABLE:
        with pytest.raises(NotFound, match="taken down"):
            opened(with_keys, component).blobs.read(down)


def test_what_a_service_may_not_write_is_its_operators_to_mend(with_keys: Endpoint) -> None:
    with pytest.raises(Unavailable) as refused:
        opened(with_keys, "rendering").objects.create("models/production/1.json", b"x")
    assert refused.value.reason == "STORE_CREDENTIALS_REFUSED"


def test_what_is_absent_is_absent_and_not_refused(with_keys: Endpoint) -> None:
    objects = opened(with_keys, "rendering").objects
    assert objects.get("midi/none.json", 10) is None
    assert objects.size_bytes("midi/none.json") is None


def test_a_stage_runs_with_the_key_of_its_service_and_is_found_again(with_keys: Endpoint) -> None:
    midi = Store(S3Store(with_keys, BUCKET)).blobs.put_bytes("midi", b"MThd", "mid")
    rendering = opened(with_keys, "rendering")

    def compute() -> RenderSongResponse:
        assert rendering.blobs.read(midi) == b"MThd"
        return RenderSongResponse(mix=rendering.blobs.put_bytes("mixes", b"m" * (20 << 20), "flac"))  # in parts

    action = Action("render", [midi.sha256])
    made, _ = rendering.actions.run(action, RenderSongResponse, compute)
    found, reused = rendering.actions.run(action, RenderSongResponse, compute)
    assert (reused, found.mix) == (True, made.mix)
    assert opened(with_keys, "analysis").blobs.exists(made.mix)


def test_a_result_that_may_not_be_looked_for_is_denied_and_not_computed_anew(with_keys: Endpoint) -> None:
    root, action = Store(S3Store(with_keys, BUCKET)), Action("render", ["ab" * 32])
    elsewhere = RenderSongResponse(mix=root.blobs.put_bytes("checkpoints", b"a mix", "flac"))
    root.actions.run(action, RenderSongResponse, lambda: elsewhere)

    def compute() -> RenderSongResponse:
        pytest.fail("it is there already")

    with pytest.raises(PermissionDenied) as denied:
        opened(with_keys, "rendering").actions.run(action, RenderSongResponse, compute)
    assert denied.value.reason == "STORE_ACCESS_DENIED"


def test_what_a_stage_made_is_set_aside_when_it_is_corrupt_and_a_model_stays_where_it_is(with_keys: Endpoint) -> None:
    root, analysis, inference = (
        Store(S3Store(with_keys, BUCKET)), opened(with_keys, "analysis"), opened(with_keys, "inference")
    )  # fmt: skip
    mix, checkpoint = root.blobs.put_bytes("mixes", b"a", "flac"), root.blobs.put_bytes("checkpoints", b"b", "bin")
    for reader, ref in ((analysis, mix), (inference, checkpoint)):
        damage(root, ref.key, b"?")
        with pytest.raises(DataLoss):
            reader.blobs.read(ref)
    assert (root.blobs.exists(mix), root.blobs.exists(checkpoint)) == (False, True)
    assert root.objects.get(f"quarantine/{mix.key}", 10) == b"?"


def test_the_documents_are_those_of_the_table() -> None:
    assert {path.stem: json.loads(path.read_text()) for path in (FOLDER / "policies").iterdir()} == POLICIES()


def test_the_readme_has_the_table() -> None:
    rows = dict(cells(line) for line in (FOLDER / "README.md").read_text().splitlines() if line.startswith("| `"))
    assert rows == {
        component: [row.get(column, []) for column in ("reads", "writes", "deletes")]
        for component, row in {"all": EVERYBODY, **TABLE}.items()
        if "creates_bucket" not in row
    }


def cells(line: str) -> tuple[str, list[list[str]]]:
    """A line of the table: component, and the prefixes in each column; `everything` is the whole bucket."""
    first, *columns = [cell.strip() for cell in line.strip("|").split("|")]
    prefixes = [[part.strip("` ") for part in column.split(",") if part.strip()] for column in columns]
    return first.strip("`"), [["" if part == "everything" else part for part in column] for column in prefixes]
