"""Everything Luthier keeps: blobs named by content, action records, append-only series, over a folder or any S3.

`open_artifacts(settings)` gives an `Artifacts`; `Action` names what a stage does.
"""

from luthier_kit.artifacts.action import Action
from luthier_kit.artifacts.folder import FolderStore
from luthier_kit.artifacts.objects import ObjectStore, Stored
from luthier_kit.artifacts.opening import open_artifacts
from luthier_kit.artifacts.proof import prove_conditional_create
from luthier_kit.artifacts.s3 import Endpoint, S3Store
from luthier_kit.artifacts.store import Artifacts

__all__ = [
    "Action", "Artifacts", "Endpoint", "FolderStore", "ObjectStore", "S3Store", "Stored", "open_artifacts",
    "prove_conditional_create",
]  # fmt: skip
