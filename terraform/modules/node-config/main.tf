# What a node is, worked out from the variables and the topology file alone: no provider, no network.

terraform {
  # Validations that look at other variables need 1.9.
  required_version = ">= 1.9"
}

variable "runtime" {
  description = "What runs engines on the node: k3s or compose."
  type        = string

  validation {
    condition     = contains(["k3s", "compose"], var.runtime)
    error_message = "runtime is ${jsonencode(var.runtime)}; give k3s or compose."
  }
}

variable "gpu" {
  description = "The kind of GPU, a key of gpus in machines.yaml."
  type        = string

  validation {
    condition     = contains(["l4", "h100"], var.gpu)
    error_message = "gpu is ${jsonencode(var.gpu)}; give l4 or h100."
  }
}

locals {
  region   = join("-", slice(split("-", var.zone), 0, 2))
  topology = yamldecode(file(var.topology_file))
  catalog  = yamldecode(file("${path.module}/machines.yaml"))
  gpu      = local.catalog.gpus[var.gpu]
  # The environment that measures on the node (--env): models may be for some environments only.
  environment = { k3s = "k8s", compose = "docker" }[var.runtime]

  # What a replica needs of the node. CPUs and memory are the requests in
  # bench/environments/kubernetes/manifests/hardware.yaml, disk the limits of its /tmp and home there.
  replica_vcpus      = 2
  replica_memory_gib = 10
  replica_disk_gib   = 20
  # The system, balancers and the load have these. The disk also holds the images.
  other_vcpus      = 4
  other_memory_gib = 16
  other_disk_gib   = 100

  # --- the models -----------------------------------------------------------------------------------
  # Then the first replicas of all models share a GPU, the second ones the next, and so on.
  colocated = try(local.topology.layout, "dedicated") == "colocated"
  models = {
    for name, model in local.topology.models : name => {
      gpus     = try(model.gpus, 1)
      replicas = try(model.replicas, 2)
      # Where they are not known, as much as its GPUs have.
      weights_gib = try(model.weights_gib, try(model.gpus, 1) * local.gpu.memory_gib)
      known       = can(model.weights_gib + 0)
    } if can(model.hub)
    && (local.colocated ? try(model.gpus, 1) == 1 : contains(try(model.environments, [local.environment]), local.environment))
    && (length(var.models) == 0 || contains(var.models, name))
  }
  elsewhere = [for name in var.models : name if !contains(keys(local.models), name)]
  replicas  = sum(concat([0], [for model in local.models : model.replicas]))
  gpus = local.colocated ? max(0, [for model in local.models : model.replicas]...) : sum(concat(
    [0], [for model in local.models : model.gpus * model.replicas]
  ))
  gpus_of_largest = max(0, [for model in local.models : model.gpus]...)
  gpus_text = join(" + ", [
    for name, model in local.models : "${name} ${model.replicas} x ${model.gpus}"
  ])

  gpu_share      = try(local.topology.gpu_engine.gpu_memory_utilization, 0.9)
  gpu_usable_gib = local.gpu.memory_gib * local.gpu_share / (local.colocated ? max(1, length(local.models)) : 1)
  # Activations, CUDA graphs and CUDA itself: a low bound, without the KV cache.
  gpu_reserve_gib = try(local.topology.gpu_engine.reserve_gib, 2)
  too_large = [
    for name, model in local.models : format(
      "%s: %.1f GiB of weights on %d GPU(s) are %.1f GiB each, with %v GiB for activations and KV cache %.1f GiB",
      name, model.weights_gib, model.gpus, model.weights_gib / model.gpus, local.gpu_reserve_gib,
      model.weights_gib / model.gpus + local.gpu_reserve_gib
    ) if model.known && model.weights_gib / model.gpus + local.gpu_reserve_gib > local.gpu_usable_gib
  ]

  # --- the machine ----------------------------------------------------------------------------------
  need_vcpus      = local.replicas * local.replica_vcpus + local.other_vcpus
  need_memory_gib = local.replicas * local.replica_memory_gib + local.other_memory_gib
  of_gpu          = { for name, machine in local.catalog.machines : name => machine if machine.gpu == var.gpu }
  # In order of their GPUs.
  offered = [
    for key in sort([
      for name, machine in local.of_gpu : format("%03d %s", machine.gpus, name)
      if var.provisioning != "on-demand" || try(machine.on_demand, true)
    ]) : split(" ", key)[1]
  ]
  with_room = [
    for name in local.offered : name
    if local.of_gpu[name].gpus >= local.gpus && local.of_gpu[name].vcpus >= local.need_vcpus
    && local.of_gpu[name].memory_gib >= local.need_memory_gib
  ]
  machine_type = var.machine_type != null ? var.machine_type : concat(local.with_room, reverse(local.offered))[0]
  is_offered   = contains(local.offered, local.machine_type)
  # One that is not offered is refused by output node; the values of any other stand in for it.
  machine = local.of_gpu[local.is_offered ? local.machine_type : local.offered[0]]

  # --- disks ----------------------------------------------------------------------------------------
  boot_disk_gib = coalesce(var.boot_disk_gib, local.other_disk_gib + local.replicas * local.replica_disk_gib)
  # Twice the weights: repositories of the hub often have them in two formats.
  weights_gib     = sum(concat([0], [for model in local.models : model.weights_gib]))
  model_cache_gib = coalesce(var.model_cache_gib, ceil(local.weights_gib * 2 / 10) * 10 + 10)

  # --- money ----------------------------------------------------------------------------------------
  hours_of_month      = 730
  machine_usd         = var.machine_usd_per_hour != null ? var.machine_usd_per_hour : local.machine.usd_per_hour
  cache_usd_per_month = local.model_cache_gib * local.catalog.pd_balanced_usd_per_gib_month
  disks_usd           = (local.boot_disk_gib * local.catalog.pd_ssd_usd_per_gib_month + local.cache_usd_per_month) / local.hours_of_month
  usd_per_hour        = local.machine_usd + local.disks_usd + local.catalog.address_usd_per_hour

  # --- network --------------------------------------------------------------------------------------
  balancer_ports = distinct([for arm in try(local.topology.arms, {}) : tostring(arm.port)])
  ports = merge({ ssh = ["22"] }, {
    k3s     = { api = ["6443"], nodeports = ["30000-32767"] }
    compose = { balancers = sort(local.balancer_ports) }
  }[var.runtime])

  # --- the startup script ---------------------------------------------------------------------------
  settings = merge(
    {
      GPUS              = local.machine.gpus
      NVSWITCH          = try(local.machine.nvswitch, false)
      CONTAINER_TOOLKIT = "1.19.0-1"
    },
    {
      k3s = {
        K3S           = "v1.34.11+k3s1"
        DEVICE_PLUGIN = "v0.17.1"
      }
      compose = {
        DOCKER         = "5:28.5.2-1~ubuntu.24.04~noble"
        CONTAINERD     = "1.7.29-1~ubuntu.24.04~noble"
        DOCKER_COMPOSE = "2.40.3-1~ubuntu.24.04~noble"
      }
    }[var.runtime]
  )
  startup_script = join("\n", concat(
    ["#!/usr/bin/env bash", "# Made by terraform/modules/node-config. Run as root at every boot of the node."],
    [for name, value in local.settings : "readonly ${name}='${value}'"],
    ["", file("${path.module}/startup/node.sh"), file("${path.module}/startup/${var.runtime}.sh"), "main", ""],
  ))

  # --- for people -----------------------------------------------------------------------------------
  preemptible = var.provisioning == "on-demand" ? "" : "PREEMPTIBLE_"
  quota_hint = join(" ", [
    "needs quota ${local.preemptible}${local.gpu.quota} >= ${local.machine.gpus} in ${local.region} and GPUS_ALL_REGIONS >= ${local.machine.gpus}",
    "(gcloud compute regions describe ${local.region} --project ${var.project_id});",
    "zones that have such GPUs: gcloud compute accelerator-types list --filter name=${local.gpu.accelerator} --project ${var.project_id}",
  ])
  ssh_command = "gcloud compute ssh ${var.name} --project ${var.project_id} --zone ${var.zone}"
}
