"""Policies of the bucket, one for each component that opens it: `python3 deploy/store/policies.py` writes them.

access.json is the table: prefixes of keys that a component reads, writes (and reads back) and deletes; "" is the whole
bucket, `all` is for everybody. Everybody lists the bucket: names are digests, and without listing an S3 answers 403 for
what is absent. The documents name the bucket BUCKET; MinIO and AWS understand them.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
BUCKET = "BUCKET"


def policies(bucket: str = BUCKET) -> dict[str, dict[str, Any]]:
    """The policy document of each component."""
    table = json.loads((HERE / "access.json").read_text())
    everybody = table.pop("all")
    return {name: policy(access, everybody, bucket) for name, access in table.items()}


def policy(access: Mapping[str, Any], everybody: Mapping[str, Any], bucket: str) -> dict[str, Any]:
    """One policy document."""

    def prefixes(*columns: str) -> list[str]:
        found = {prefix for column in columns for row in (access, everybody) for prefix in row.get(column, ())}
        return [""] if "" in found else sorted(found)

    def statement(actions: list[str], below: list[str]) -> dict[str, Any]:
        keys = [f"arn:aws:s3:::{bucket}/{prefix}*" for prefix in below]
        return {"Effect": "Allow", "Action": [f"s3:{action}" for action in actions], "Resource": keys}

    of_bucket = ["GetBucketLocation", "ListBucket", *(["CreateBucket"] if access.get("creates_bucket") else [])]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {**statement(of_bucket, []), "Resource": [f"arn:aws:s3:::{bucket}"]},
            statement(["GetObject"], prefixes("reads", "writes")),
            statement(["AbortMultipartUpload", "PutObject"], prefixes("writes")),
            statement(["DeleteObject"], prefixes("deletes")),
        ],
    }


def main() -> None:
    bucket = sys.argv[1] if len(sys.argv) > 1 else BUCKET
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else HERE / "policies"
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in policies(bucket).items():
        (folder / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
