# One node group for each pool, with the labels and taints that the chart's `nodePools` expect: Pods with GPUs are scheduled on
# GPU nodes only, and other Pods never there.

locals {
  pool_label = "luthier.io/pool"
  gpu_label  = "nvidia.com/gpu.present" # NVIDIA's device plugin selects nodes by it
  gpu_taint  = { key = "nvidia.com/gpu", value = "present", effect = "NoSchedule" }

  pools = {
    for name, pool in var.pools : name => merge(pool, {
      labels = merge({ (local.pool_label) = name }, pool.gpus > 0 ? { (local.gpu_label) = "true" } : {})
      taints = pool.gpus > 0 ? [local.gpu_taint] : []
    })
  }
}

resource "aws_iam_role" "node" {
  name               = "${var.name}-node"
  assume_role_policy = data.aws_iam_policy_document.assume["ec2.amazonaws.com"].json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEKSWorkerNodePolicy", "AmazonEKS_CNI_Policy", "AmazonEC2ContainerRegistryPullOnly"])

  role       = aws_iam_role.node.name
  policy_arn = "${local.policies}/${each.key}"
}

resource "aws_launch_template" "pool" {
  for_each = local.pools

  name = "${var.name}-${each.key}"

  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_size = each.value.disk_gib
      volume_type = "gp3"
      encrypted   = true
    }
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # Pods cannot get the credentials of the node's role
  }

  tag_specifications {
    resource_type = "instance"
    tags          = { Name = "${var.name}-${each.key}" }
  }
}

resource "aws_eks_node_group" "pool" {
  for_each = local.pools

  cluster_name    = aws_eks_cluster.this.name
  node_group_name = each.key
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = [for subnet in aws_subnet.private : subnet.id]
  instance_types  = each.value.instance_types
  capacity_type   = each.value.spot ? "SPOT" : "ON_DEMAND"
  ami_type        = each.value.gpus > 0 ? "AL2023_x86_64_NVIDIA" : "AL2023_x86_64_STANDARD"
  labels          = each.value.labels

  launch_template {
    id      = aws_launch_template.pool[each.key].id
    version = aws_launch_template.pool[each.key].latest_version
  }

  scaling_config {
    min_size     = each.value.min
    max_size     = each.value.max
    desired_size = each.value.min
  }

  update_config {
    max_unavailable = 1
  }

  dynamic "taint" {
    for_each = each.value.taints

    content {
      key    = taint.value.key
      value  = taint.value.value
      effect = { NoSchedule = "NO_SCHEDULE" }[taint.value.effect]
    }
  }

  lifecycle {
    ignore_changes = [scaling_config[0].desired_size] # set by the autoscaler
  }

  depends_on = [aws_iam_role_policy_attachment.node, aws_eks_addon.first]
}

# The autoscaler learns labels, taints and GPUs of an empty group from the group's tags.
locals {
  group_tags = merge([
    for name, pool in local.pools : merge(
      {
        "${name} enabled" = { pool = name, key = "k8s.io/cluster-autoscaler/enabled", value = "true" }
        "${name} owned"   = { pool = name, key = "k8s.io/cluster-autoscaler/${var.name}", value = "owned" }
      },
      { for key, value in pool.labels : "${name} ${key}" => {
        pool = name, key = "k8s.io/cluster-autoscaler/node-template/label/${key}", value = value
      } },
      { for taint in pool.taints : "${name} ${taint.key}" => {
        pool = name, key = "k8s.io/cluster-autoscaler/node-template/taint/${taint.key}", value = "${taint.value}:${taint.effect}"
      } },
      pool.gpus > 0 ? { "${name} gpus" = {
        pool = name, key = "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu", value = tostring(pool.gpus)
      } } : {},
    )
  ]...)
}

resource "aws_autoscaling_group_tag" "pool" {
  for_each = local.group_tags

  autoscaling_group_name = aws_eks_node_group.pool[each.value.pool].resources[0].autoscaling_groups[0].name

  tag {
    key                 = each.value.key
    value               = each.value.value
    propagate_at_launch = false
  }
}
