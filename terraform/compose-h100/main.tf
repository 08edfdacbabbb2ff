# Eight H100s (a3-highgpu-8g) with Docker and Compose, sized for bench/topology.yaml. Nobody has applied this yet.

module "config" {
  source = "../modules/node-config"

  runtime              = "compose"
  gpu                  = "h100"
  project_id           = var.project_id
  zone                 = var.zone
  source_ranges        = var.source_ranges
  allow_any_source     = var.allow_any_source
  name                 = var.name
  topology_file        = var.topology_file
  models               = var.models
  machine_type         = var.machine_type
  provisioning         = var.provisioning
  max_run_hours        = var.max_run_hours
  boot_disk_gib        = var.boot_disk_gib
  model_cache_gib      = var.model_cache_gib
  image                = var.image
  labels               = var.labels
  machine_usd_per_hour = var.machine_usd_per_hour
}

module "network" {
  source = "../modules/network"

  name       = module.config.node.name
  project_id = module.config.node.project_id
  region     = module.config.node.region
}

module "firewall" {
  source = "../modules/firewall"

  name       = module.config.node.name
  project_id = module.config.node.project_id
  network_id = module.network.network_id
  rules      = module.config.firewall
}

module "node" {
  source = "../modules/node"

  node      = module.config.node
  subnet_id = module.network.subnet_id
}

output "instance_ip" {
  description = "The node's address."
  value       = module.node.instance_ip
}

output "ssh_command" {
  description = "Opens a shell on the node. python -m bench wait --ssh takes it."
  value       = module.config.ssh_command
}

output "cost" {
  description = "What the node costs, in US dollars."
  value       = module.config.cost
}

output "sizing" {
  description = "How the topology file fills the machine."
  value       = module.config.sizing
}

output "quota_hint" {
  description = "Which quota the node needs, and how to see which zones have its GPUs."
  value       = module.config.quota_hint
}
