# A network of its own, so that no rule of another one applies to the node.

variable "name" {
  description = "The name of the network and of its subnet."
  type        = string
  nullable    = false
}

variable "project_id" {
  description = "The project."
  type        = string
  nullable    = false
}

variable "region" {
  description = "The region of the subnet."
  type        = string
  nullable    = false
}

# Module firewall has its rules.
resource "google_compute_network" "this" {
  #checkov:skip=CKV2_GCP_18: see above
  name                    = var.name
  project                 = var.project_id
  auto_create_subnetworks = false
}

# No flow logs: one node for some hours, and what it exchanges is not worth its storage.
resource "google_compute_subnetwork" "this" {
  #checkov:skip=CKV_GCP_26: see above
  #checkov:skip=CKV_GCP_76: the node has no IPv6 address
  name                     = var.name
  project                  = var.project_id
  region                   = var.region
  network                  = google_compute_network.this.id
  ip_cidr_range            = "10.10.0.0/28"
  private_ip_google_access = true
}

output "network_id" {
  description = "The network."
  value       = google_compute_network.this.id
}

output "subnet_id" {
  description = "The subnet."
  value       = google_compute_subnetwork.this.id
}
