# The control plane, access to it, and the add-ons that every node needs.

data "aws_partition" "current" {}

data "aws_caller_identity" "current" {}

locals {
  policies = "arn:${data.aws_partition.current.partition}:iam::aws:policy"
}

resource "aws_iam_role" "cluster" {
  name               = "${var.name}-cluster"
  assume_role_policy = data.aws_iam_policy_document.assume["eks.amazonaws.com"].json
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "${local.policies}/AmazonEKSClusterPolicy"
}

data "aws_iam_policy_document" "assume" {
  for_each = toset(["eks.amazonaws.com", "ec2.amazonaws.com", "pods.eks.amazonaws.com"])

  statement {
    actions = each.key == "pods.eks.amazonaws.com" ? ["sts:AssumeRole", "sts:TagSession"] : ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = [each.key]
    }
  }
}

resource "aws_kms_key" "secrets" {
  description             = "Secrets of the cluster ${var.name}"
  enable_key_rotation     = true
  deletion_window_in_days = 30
}

resource "aws_eks_cluster" "this" {
  name                      = var.name
  version                   = var.kubernetes_version
  role_arn                  = aws_iam_role.cluster.arn
  enabled_cluster_log_types = ["api", "audit", "authenticator"]

  vpc_config {
    subnet_ids              = [for subnet in aws_subnet.private : subnet.id]
    endpoint_private_access = true
    endpoint_public_access  = length(var.api_access_from) > 0
    public_access_cidrs     = length(var.api_access_from) > 0 ? var.api_access_from : null
  }

  access_config {
    authentication_mode                         = "API"
    bootstrap_cluster_creator_admin_permissions = true
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = aws_kms_key.secrets.arn
    }
  }

  depends_on = [aws_iam_role_policy_attachment.cluster]
}

# A node becomes Ready only with the network plugin and kube-proxy. The plugin must also enforce the chart's NetworkPolicies.
resource "aws_eks_addon" "first" {
  for_each = {
    vpc-cni                = { enableNetworkPolicy = "true" }
    kube-proxy             = {}
    eks-pod-identity-agent = {}
  }

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  configuration_values        = length(each.value) > 0 ? jsonencode(each.value) : null
  resolve_conflicts_on_update = "OVERWRITE"
}

# These run as Pods, so they are installed after the nodes.
resource "aws_eks_addon" "then" {
  for_each = toset(["coredns", "aws-ebs-csi-driver"])

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  resolve_conflicts_on_update = "OVERWRITE"
  depends_on                  = [aws_eks_node_group.pool, aws_eks_pod_identity_association.controller]
}

# Two controllers of the cluster call AWS APIs. Luthier's own Pods have a key for the bucket and no other access.
locals {
  controllers = {
    ebs-csi-controller-sa = "ebs"
    cluster-autoscaler    = "autoscaler"
  }
}

resource "aws_iam_role" "controller" {
  for_each = local.controllers

  name               = "${var.name}-${each.value}"
  assume_role_policy = data.aws_iam_policy_document.assume["pods.eks.amazonaws.com"].json
}

resource "aws_eks_pod_identity_association" "controller" {
  for_each = local.controllers

  cluster_name    = aws_eks_cluster.this.name
  namespace       = "kube-system"
  service_account = each.key
  role_arn        = aws_iam_role.controller[each.key].arn
}

resource "aws_iam_role_policy_attachment" "ebs" {
  role       = aws_iam_role.controller["ebs-csi-controller-sa"].name
  policy_arn = "${local.policies}/service-role/AmazonEBSCSIDriverPolicy"
}

resource "aws_iam_role_policy" "autoscaler" {
  name   = "autoscaler"
  role   = aws_iam_role.controller["cluster-autoscaler"].name
  policy = data.aws_iam_policy_document.autoscaler.json
}

data "aws_iam_policy_document" "autoscaler" {
  statement {
    actions = [
      "autoscaling:DescribeAutoScalingGroups", "autoscaling:DescribeAutoScalingInstances", "autoscaling:DescribeLaunchConfigurations",
      "autoscaling:DescribeScalingActivities", "autoscaling:DescribeTags", "ec2:DescribeImages", "ec2:DescribeInstanceTypes",
      "ec2:DescribeLaunchTemplateVersions", "ec2:GetInstanceTypesFromInstanceRequirements", "eks:DescribeNodegroup",
    ]
    resources = ["*"]
  }

  statement {
    actions   = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}"
      values   = ["owned"]
    }
  }
}
