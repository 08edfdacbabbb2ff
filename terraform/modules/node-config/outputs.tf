output "node" {
  description = "What module node makes."
  value = {
    name           = var.name
    project_id     = var.project_id
    zone           = var.zone
    region         = local.region
    machine_type   = local.machine_type
    image          = var.image
    startup_script = local.startup_script
    labels         = merge(var.labels, { app = "llm-bench", runtime = var.runtime, managed-by = "terraform" })
    disks = {
      boot_gib        = local.boot_disk_gib
      model_cache_gib = local.model_cache_gib
    }
    scheduling = {
      provisioning_model = { on-demand = "STANDARD", spot = "SPOT", flex-start = "FLEX_START" }[var.provisioning]
      preemptible        = var.provisioning == "spot"
      max_run_seconds    = var.max_run_hours * 3600
    }
  }

  precondition {
    condition     = local.is_offered
    error_message = "machine_type is ${local.machine_type}; with gpu ${var.gpu} and provisioning ${var.provisioning} give one of ${join(", ", local.offered)}."
  }
  precondition {
    condition     = length(local.elsewhere) == 0
    error_message = "models has ${join(", ", local.elsewhere)}, which the topology file has for other environments than ${local.environment} alone; leave it out, or add ${local.environment} to its environments."
  }
  precondition {
    condition     = length(local.models) > 0 || length(local.elsewhere) > 0
    error_message = "The topology file has no model of the hub for environment ${local.environment}, so there is nothing for GPUs to serve; give a model a hub name."
  }
  precondition {
    condition     = length(local.too_large) == 0
    error_message = "Does not fit a GPU: ${join("; ", local.too_large)}; ${local.gpu.name} has ${local.gpu.memory_gib} GiB, of which gpu_memory_utilization ${local.gpu_share} leaves ${format("%.1f", local.gpu_usable_gib)} GiB. Give the model more gpus in the topology file, or leave it out with models."
  }
  precondition {
    condition     = !local.is_offered || local.gpus <= local.machine.gpus
    error_message = "An arm needs ${local.gpus} GPUs (replicas x gpus: ${local.gpus_text}), ${local.machine_type} has ${local.machine.gpus}. Give fewer models or replicas, or a larger machine_type."
  }
  precondition {
    condition     = !local.is_offered || local.need_vcpus <= local.machine.vcpus && local.need_memory_gib <= local.machine.memory_gib
    error_message = "${local.replicas} replicas need ${local.need_vcpus} vCPUs (${local.replica_vcpus} each, ${local.other_vcpus} for the rest) and ${local.need_memory_gib} GiB (${local.replica_memory_gib} each, ${local.other_memory_gib}), ${local.machine_type} has ${local.machine.vcpus} and ${local.machine.memory_gib}. Give fewer replicas, or a larger machine_type."
  }
}

output "firewall" {
  description = "Which TCP ports are open from where, by the name of the rule."
  value       = { for name, ports in local.ports : name => { ports = ports, source_ranges = var.source_ranges } }
}

output "sizing" {
  description = "How the topology file fills the machine."
  value = {
    machine_type       = local.machine_type
    gpu                = local.gpu.name
    gpus               = local.machine.gpus
    gpus_of_an_arm     = local.gpus
    gpus_of_largest    = local.gpus_of_largest
    arms_at_once       = local.gpus * 2 <= local.machine.gpus ? 2 : 1
    replicas           = local.replicas
    weights_gib        = { for name, model in local.models : name => model.known ? model.weights_gib : null }
    gpu_usable_gib     = local.gpu_usable_gib
    host_memory_gib    = local.need_memory_gib
    boot_disk_gib      = local.boot_disk_gib
    model_cache_gib    = local.model_cache_gib
    replica_vcpus      = local.replica_vcpus
    replica_memory_gib = local.replica_memory_gib
  }
}

output "cost" {
  description = "What the node costs, in US dollars."
  value = {
    per_hour              = tonumber(format("%.2f", local.usd_per_hour))
    until_deleted         = tonumber(format("%.2f", local.usd_per_hour * var.max_run_hours))
    model_cache_per_month = tonumber(format("%.2f", local.cache_usd_per_month))
    note = join(" ", compact([
      var.machine_usd_per_hour != null ? "With your price of the machine." : "List price in us-central1 as of 2026-11, which may be outdated; other regions cost up to a third more.",
      var.provisioning == "on-demand" ? "" : "The list price is that of on-demand: ${var.provisioning} costs less.",
      "model_cache_per_month is paid until terraform destroy, also without a node.",
    ]))
  }
}

output "quota_hint" {
  description = "Which quota the node needs, and how to see which zones have its GPUs."
  value       = local.quota_hint
}

output "ssh_command" {
  description = "Opens a shell on the node."
  value       = local.ssh_command
}
