output "kubeconfig" {
  description = "The command that adds the cluster to your kubeconfig."
  value       = "aws eks update-kubeconfig --region ${var.region} --name ${aws_eks_cluster.this.name}"
}

output "store_user" {
  description = "The user whose access key the services use: README.md, step 2."
  value       = aws_iam_user.store.name
}

output "component_users" {
  description = "With key_per_component: the user of each component."
  value       = { for name, user in aws_iam_user.component : name => user.name }
}

output "database_host" {
  description = "Host of PostgreSQL; empty without one."
  value       = try(aws_db_instance.this[0].address, "")
}

output "database_secret" {
  description = "ARN of the database's password in Secrets Manager; empty without a database."
  value       = try(aws_db_instance.this[0].master_user_secret[0].secret_arn, "")
}

output "node_pools" {
  description = "Labels and taints of the node groups."
  value       = { for name, pool in local.pools : name => { labels = pool.labels, taints = pool.taints, gpus = pool.gpus } }
}

output "values" {
  description = "Values for the chart: `terraform output -raw values > eks.yaml`, then `helm … -f values-production.yaml -f eks.yaml`."
  value       = yamlencode(local.values)
}

locals {
  values = {
    nodePools = {
      for name, pool in local.pools : (name == "cpu" ? "default" : name) => {
        selector    = { (local.pool_label) = pool.labels[local.pool_label] }
        tolerations = [for taint in pool.taints : { key = taint.key, operator = "Exists", effect = taint.effect }]
        gpus        = coalesce(pool.gpus_per_pod, pool.gpus)
        # EKS' image for GPUs runs every container with NVIDIA's runtime and has no RuntimeClass.
        runtimeClass = ""
      }
    }
    store = { s3 = {
      endpoint = "s3.${var.region}.amazonaws.com:443"
      region   = var.region
      bucket   = local.bucket
      secure   = true
      # Secrets with the keys of the components' users: deploy/store/README.md.
      componentSecrets = { for name in keys(local.components) : name => "luthier-s3-${name}" }
    } }
  }
}
