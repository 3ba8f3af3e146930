# `terraform test`: a plan of the whole folder against a provider that is played, so no account is needed.

mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/any" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-central-1:123456789012:key/any" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::any" }
  }
  mock_resource "aws_launch_template" {
    defaults = { id = "lt-0123456789abcdef0", latest_version = 1 }
  }
  mock_resource "aws_eks_node_group" {
    defaults = { resources = [{ autoscaling_groups = [{ name = "any" }], remote_access_security_group_id = "" }] }
  }
}

run "pools" {
  command = plan

  assert {
    condition = alltrue([for name, group in aws_eks_node_group.pool : group.labels == tomap(merge(
      { "luthier.io/pool" = name }, var.pools[name].gpus > 0 ? { "nvidia.com/gpu.present" = "true" } : {}
    ))])
    error_message = "every node must carry its pool's name, and one with GPUs the label that NVIDIA's device plugin looks for"
  }

  assert {
    condition = alltrue([
      for name, group in aws_eks_node_group.pool : var.pools[name].gpus > 0
      ? [for taint in group.taint : "${taint.key}=${taint.value}:${taint.effect}"] == ["nvidia.com/gpu=present:NO_SCHEDULE"]
      : length(group.taint) == 0
    ])
    error_message = "nodes with GPUs, and no others, must carry nvidia.com/gpu=present:NoSchedule"
  }

  assert {
    condition     = aws_eks_node_group.pool["gpu-training"].scaling_config[0].min_size == 0
    error_message = "GPUs for training must not be paid for while nobody trains"
  }

  assert {
    condition = alltrue([for key in ["label/luthier.io/pool", "label/nvidia.com/gpu.present", "taint/nvidia.com/gpu", "resources/nvidia.com/gpu"] : contains(
      [for tag in aws_autoscaling_group_tag.pool : tag.tag[0].key], "k8s.io/cluster-autoscaler/node-template/${key}"
    )])
    error_message = "the autoscaler must know what a node of an empty group would carry"
  }

  assert {
    condition = alltrue([
      for name, pool in yamldecode(file("values-production.yaml")).nodePools : pool == null ? true : (
        tomap(local.values.nodePools[name].selector) == tomap(pool.selector) && local.values.nodePools[name].gpus == try(pool.gpus, 0)
        && length(setsubtract(
          [for taint in local.pools[name == "default" ? "cpu" : name].taints : "${taint.key}:${taint.effect}"],
          [for toleration in try(pool.tolerations, []) : "${toleration.key}:${toleration.effect}"],
        )) == 0
      )
    ])
    error_message = "the chart's values-production.yaml must find its node pools here"
  }

  assert {
    condition     = length(aws_db_instance.this) == 0
    error_message = "no database unless asked for"
  }
}

run "database" {
  command = plan

  variables {
    database = true
  }

  assert {
    condition     = aws_db_instance.this[0].manage_master_user_password && aws_db_instance.this[0].password == null
    error_message = "the database's password must not pass through Terraform"
  }
}

run "a_key_for_each_component" {
  command = plan

  variables {
    key_per_component = true
    bucket            = "songs"
  }

  assert {
    condition     = aws_iam_user.component["training-run"].name == "luthier-training-run" && length(aws_iam_user.component) >= 15
    error_message = "each component of deploy/store must have a user"
  }

  assert {
    condition = alltrue([
      for policy in aws_iam_policy.component :
      strcontains(policy.policy, "arn:aws:s3:::songs/") && !strcontains(policy.policy, "BUCKET") && length(jsonencode(jsondecode(policy.policy))) <= 6144
    ])
    error_message = "a policy must name the bucket, and be no longer than IAM takes"
  }

  assert {
    condition     = local.values.store.s3.componentSecrets["expiry"] == "luthier-s3-expiry"
    error_message = "the chart must find the Secrets of the components"
  }
}

run "open_api_refused" {
  command = plan

  variables {
    api_access_from = ["0.0.0.0/0"]
  }

  expect_failures = [var.api_access_from]
}

run "missing_pool_refused" {
  command = plan

  variables {
    pools = { cpu = { instance_types = ["m7i.xlarge"], gpus = 0, min = 2, max = 6, disk_gib = 100 } }
  }

  expect_failures = [var.pools]
}
