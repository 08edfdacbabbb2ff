# The variables of both roots, which have this very file (a symbolic link), and of this module.

variable "project_id" {
  description = "The Google Cloud project that pays for the node."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id is ${jsonencode(var.project_id)}, which cannot be the id of a project; see: gcloud projects list."
  }
}

variable "zone" {
  description = "The zone of the node, such as us-central1-a. Output quota_hint tells which zones have the GPUs, and which quota is needed."
  type        = string

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+-[a-z]$", var.zone))
    error_message = "zone is ${jsonencode(var.zone)}; give a zone such as us-central1-a, not a region."
  }
}

variable "source_ranges" {
  description = "The IPv4 ranges from which SSH, the Kubernetes API, NodePorts and balancers can be reached, such as [\"203.0.113.7/32\"]. All others are kept out."
  type        = list(string)

  validation {
    condition     = try(length(var.source_ranges) > 0, false)
    error_message = "source_ranges has no range, so nobody could reach the node; give your own address, such as [\"203.0.113.7/32\"]."
  }
  validation {
    condition     = try(alltrue([for range in var.source_ranges : can(cidrnetmask(range)) && try(cidrhost(range, 0) == split("/", range)[0], false)]), true)
    error_message = "source_ranges is ${jsonencode(var.source_ranges)}; an IPv4 range is its first address and the length of its prefix, such as 203.0.113.7/32 or 203.0.113.0/24."
  }
  validation {
    condition     = var.allow_any_source || try(alltrue([for range in var.source_ranges : try(tonumber(split("/", range)[1]) >= 8, true)]), true)
    error_message = "source_ranges has ${try(jsonencode([for range in var.source_ranges : range if try(tonumber(split("/", range)[1]) < 8, false)]), "none")}, which opens the node to the internet; name your own ranges, or set allow_any_source = true."
  }
}

variable "allow_any_source" {
  description = "Whether source_ranges may have 0.0.0.0/0, or any other range with a prefix shorter than 8."
  type        = bool
  default     = false

  validation {
    condition     = var.allow_any_source != null
    error_message = "allow_any_source is null; give true or false."
  }
}

variable "name" {
  description = "The name of the node, and the beginning of the names of all that belongs to it."
  type        = string
  default     = "llm-bench"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,20}[a-z0-9]$", var.name))
    error_message = "name is ${jsonencode(var.name)}; give 6 to 22 lower-case letters, digits and dashes, beginning with a letter and not ending with a dash."
  }
}

variable "topology_file" {
  description = "The topology file that the node is sized for. A relative path begins at the root."
  type        = string
  default     = "../../bench/topology.yaml"

  validation {
    condition     = length(try(keys(yamldecode(file(var.topology_file)).models), [])) > 0
    error_message = "topology_file is ${jsonencode(var.topology_file)}, which is no YAML file with models; give the path of bench/topology.yaml."
  }
  validation {
    condition = alltrue(concat(
      [
        for model in try(values(yamldecode(file(var.topology_file)).models), []) :
        alltrue([for least in [try(model.gpus, 1), try(model.replicas, 1)] : try(least >= 1, false)])
        && try(try(model.weights_gib, 1) > 0, false) && can(concat(try(model.environments, []), []))
      ],
      [for arm in try(values(yamldecode(file(var.topology_file)).arms), []) : can(arm.port + 0)],
    ))
    error_message = "topology_file is ${jsonencode(var.topology_file)}, which has a model or an arm with values that cannot be; python -m bench manifests --check --topology FILE says where."
  }
}

variable "models" {
  description = "Models of the topology file that the node has to have room for; all models of the hub for its environment if none is named."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for model in var.models : can(yamldecode(file(var.topology_file)).models[model].hub)
    ])
    error_message = "models is ${jsonencode(var.models)}; models of the hub in the topology file are ${jsonencode([for name, model in try(yamldecode(file(var.topology_file)).models, {}) : name if can(model.hub)])}."
  }
}

variable "machine_type" {
  description = "A machine type of machines.yaml; the smallest that has room for the models if null."
  type        = string
  default     = null

  validation {
    condition     = var.machine_type == null || can(regex("^[a-z][a-z0-9-]+$", var.machine_type))
    error_message = "machine_type is ${jsonencode(var.machine_type)}; give a name such as g2-standard-96, or null."
  }
}

variable "provisioning" {
  description = "How the node is had and paid for: on-demand, spot (cheaper, may be taken away at any time) or flex-start (cheaper, waits for GPUs, seven days at most)."
  type        = string
  default     = "on-demand"
  nullable    = false

  validation {
    condition     = contains(["on-demand", "spot", "flex-start"], var.provisioning)
    error_message = "provisioning is ${jsonencode(var.provisioning)}; give on-demand, spot or flex-start."
  }
}

variable "max_run_hours" {
  description = "After so many hours Google Cloud deletes the node, whatever runs on it, so that nobody pays for a forgotten one."
  type        = number
  default     = 8

  validation {
    condition     = try(var.max_run_hours >= 1 && var.max_run_hours <= 168 && floor(var.max_run_hours) == var.max_run_hours, false)
    error_message = "max_run_hours is ${jsonencode(var.max_run_hours)}; give whole hours from 1 to 168 (a week)."
  }
}

variable "boot_disk_gib" {
  description = "The size of the boot disk in GiB; what the system, images and engines need if null."
  type        = number
  default     = null

  validation {
    condition     = var.boot_disk_gib == null ? true : var.boot_disk_gib >= 100 && var.boot_disk_gib <= 65536 && floor(var.boot_disk_gib) == var.boot_disk_gib
    error_message = "boot_disk_gib is ${jsonencode(var.boot_disk_gib)}; give whole GiB from 100 to 65536, or null."
  }
}

variable "model_cache_gib" {
  description = "The size of the disk for weights in GiB; what the models need if null. It outlives the node, and is deleted by terraform destroy."
  type        = number
  default     = null

  validation {
    condition     = var.model_cache_gib == null ? true : var.model_cache_gib >= 10 && var.model_cache_gib <= 65536 && floor(var.model_cache_gib) == var.model_cache_gib
    error_message = "model_cache_gib is ${jsonencode(var.model_cache_gib)}; give whole GiB from 10 to 65536, or null."
  }
}

variable "image" {
  description = "The image of the boot disk: Ubuntu 24.04 with NVIDIA's signed driver. A name without /family/ pins one image for good."
  type        = string
  default     = "projects/ubuntu-os-accelerator-images/global/images/family/ubuntu-accelerator-2404-amd64-with-nvidia-580"

  validation {
    condition     = can(regex("^projects/[a-z0-9-]+/global/images/(family/)?[a-z0-9-]+$", var.image))
    error_message = "image is ${jsonencode(var.image)}; give projects/PROJECT/global/images/NAME or .../images/family/NAME."
  }
}

variable "labels" {
  description = "More labels for the node and its disks, such as who pays."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition = alltrue([
      for key, value in var.labels :
      can(regex("^[a-z][a-z0-9_-]{0,62}$", key)) && can(regex("^[a-z0-9_-]{0,63}$", value))
    ])
    error_message = "labels is ${jsonencode(var.labels)}; keys and values are lower-case letters, digits, _ and -, 63 at most, and a key begins with a letter."
  }
  validation {
    condition     = length(setintersection(keys(var.labels), ["app", "runtime", "managed-by"])) == 0
    error_message = "labels is ${jsonencode(var.labels)}; app, runtime and managed-by are set already, give others."
  }
}

variable "machine_usd_per_hour" {
  description = "What the machine costs you, in US dollars per hour; the list price in machines.yaml if null."
  type        = number
  default     = null

  validation {
    condition     = var.machine_usd_per_hour == null ? true : var.machine_usd_per_hour >= 0
    error_message = "machine_usd_per_hour is ${jsonencode(var.machine_usd_per_hour)}; give 0 or more, or null."
  }
}
