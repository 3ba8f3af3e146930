variable "name" {
  description = "Name of the cluster, and prefix of every other name."
  type        = string
  default     = "luthier"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,29}$", var.name))
    error_message = "name must be 2 to 30 lower-case letters, digits and dashes, a letter first."
  }
}

variable "region" {
  description = "AWS region; the GPU instance types below must be offered there."
  type        = string
  default     = "eu-central-1"
}

variable "availability_zones" {
  description = "Two or more zones of the region."
  type        = list(string)
  default     = ["eu-central-1a", "eu-central-1b"]

  validation {
    condition     = length(var.availability_zones) >= 2 && length(var.availability_zones) <= 4
    error_message = "availability_zones must name 2 to 4 zones: EKS and RDS ask for two."
  }
}

variable "kubernetes_version" {
  description = "The chart asks for 1.30 or later."
  type        = string
  default     = "1.33"
}

variable "network" {
  description = "Range of the VPC, a /16."
  type        = string
  default     = "10.80.0.0/16"

  validation {
    condition     = can(cidrhost(var.network, 0)) && endswith(var.network, "/16")
    error_message = "network must be a /16 like 10.80.0.0/16."
  }
}

variable "api_access_from" {
  description = "Ranges from which the cluster's API may be reached over the internet; empty = only from inside the VPC."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.api_access_from, "0.0.0.0/0")
    error_message = "api_access_from must not open the API to everybody; name your own ranges."
  }
}

variable "pools" {
  description = <<-TEXT
    Node groups by the name of the chart's node pool. `gpus` of one node; 0 = none: no taint, and the ordinary image.
    `gpus_per_pod` of the chart's pool, by default all of the node's. With `min` 0 the autoscaler may remove every node.
    `disk_gib` holds images (torch alone is 6 GB) and scratch space.
  TEXT
  type = map(object({
    instance_types = list(string)
    gpus           = number
    gpus_per_pod   = optional(number)
    min            = number
    max            = number
    disk_gib       = number
    spot           = optional(bool, false)
  }))
  default = {
    # Services, Jobs of the pipeline, and Pods of the cluster itself.
    cpu = { instance_types = ["m7i.xlarge", "m6i.xlarge"], gpus = 0, min = 2, max = 6, disk_gib = 100 }
    # Render workers: a song of a lost worker is rendered again, so spot capacity is enough.
    render        = { instance_types = ["c7i.2xlarge", "c6i.2xlarge", "c6a.2xlarge"], gpus = 0, min = 0, max = 20, disk_gib = 100, spot = true }
    gpu-inference = { instance_types = ["g6.2xlarge"], gpus = 1, min = 1, max = 9, disk_gib = 200 }
    gpu-training  = { instance_types = ["g6.12xlarge"], gpus = 4, min = 0, max = 2, disk_gib = 400 }
  }

  validation {
    condition     = alltrue([for name in ["cpu", "render", "gpu-inference", "gpu-training"] : contains(keys(var.pools), name)])
    error_message = "pools must have cpu, render, gpu-inference and gpu-training: the chart's values name them."
  }

  validation {
    condition     = alltrue([for pool in var.pools : pool.min >= 0 && pool.max >= max(pool.min, 1) && pool.gpus >= 0])
    error_message = "of every pool min must be 0 or more, max at least 1 and at least min, gpus 0 or more."
  }
}

variable "bucket" {
  description = "Name of the bucket; empty = the cluster's name, the account and the region."
  type        = string
  default     = ""
}

variable "key_per_component" {
  description = "true = a user of the bucket for each component, with a policy of its own (deploy/store), beside the one for all."
  type        = bool
  default     = false
}

variable "database" {
  description = "true = PostgreSQL on RDS for curation; false = use one of your own."
  type        = bool
  default     = false
}

variable "database_class" {
  description = "Instance class of the database."
  type        = string
  default     = "db.t4g.small"
}

variable "tags" {
  description = "Further tags of every resource."
  type        = map(string)
  default     = {}
}
