# The bucket, one user who may read and write only this bucket and, when asked for, one for each component with the policies
# of deploy/store. Their keys are created by hand (README.md), so that Terraform's state holds no secret.

locals {
  bucket = var.bucket != "" ? var.bucket : "${var.name}-${data.aws_caller_identity.current.account_id}-${var.region}"
}

resource "aws_s3_bucket" "this" {
  bucket = local.bucket

  lifecycle {
    prevent_destroy = true # data sets, models and their lineage
  }
}

resource "aws_s3_bucket_public_access_block" "this" {
  bucket                  = aws_s3_bucket.this.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_server_side_encryption_configuration" "this" {
  bucket = aws_s3_bucket.this.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

# Objects are written once, so an older version exists only after a mistake or a deletion. It can be restored for 30 days.
resource "aws_s3_bucket_versioning" "this" {
  bucket = aws_s3_bucket.this.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  bucket     = aws_s3_bucket.this.id
  depends_on = [aws_s3_bucket_versioning.this]

  rule {
    id     = "leftovers"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 2
    }

    noncurrent_version_expiration {
      noncurrent_days = 30
    }
  }
}

resource "aws_s3_bucket_policy" "this" {
  bucket     = aws_s3_bucket.this.id
  policy     = data.aws_iam_policy_document.tls_only.json
  depends_on = [aws_s3_bucket_public_access_block.this]
}

data "aws_iam_policy_document" "tls_only" {
  statement {
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.this.arn, "${aws_s3_bucket.this.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_iam_user" "store" {
  name = "${var.name}-store"
}

resource "aws_iam_user_policy" "store" {
  name   = "bucket"
  user   = aws_iam_user.store.name
  policy = data.aws_iam_policy_document.store.json
}

data "aws_iam_policy_document" "store" {
  statement {
    actions   = ["s3:ListBucket", "s3:GetBucketLocation", "s3:ListBucketMultipartUploads"]
    resources = [aws_s3_bucket.this.arn]
  }

  statement {
    actions   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"]
    resources = ["${aws_s3_bucket.this.arn}/*"]
  }
}

locals {
  documents = "${path.module}/../store/policies"
  components = var.key_per_component ? {
    for name in fileset(local.documents, "*.json") :
    trimsuffix(name, ".json") => replace(file("${local.documents}/${name}"), ":::BUCKET", ":::${local.bucket}")
  } : {}
}

resource "aws_iam_user" "component" {
  for_each = local.components
  name     = "${var.name}-${each.key}"
}

resource "aws_iam_policy" "component" { # a user's own policies have 2048 characters at most, too few for some
  for_each = local.components
  name     = "${var.name}-${each.key}"
  policy   = each.value
}

resource "aws_iam_user_policy_attachment" "component" {
  for_each   = local.components
  user       = aws_iam_user.component[each.key].name
  policy_arn = aws_iam_policy.component[each.key].arn
}
