# What may reach the node. A network has no other rules: all else is refused.

variable "name" {
  description = "The beginning of the rules' names, and the network tag of the node."
  type        = string
  nullable    = false
}

variable "project_id" {
  description = "The project."
  type        = string
  nullable    = false
}

variable "network_id" {
  description = "The network."
  type        = string
  nullable    = false
}

variable "rules" {
  description = "Which TCP ports are open from where, by the name of the rule: output firewall of node-config."
  type        = map(object({ ports = list(string), source_ranges = list(string) }))
  nullable    = false

  validation {
    condition     = alltrue([for rule in var.rules : length(rule.source_ranges) > 0 && length(rule.ports) > 0])
    error_message = "A rule without source_ranges or ports is open to everybody, or for everything: ${jsonencode(var.rules)}."
  }
}

resource "google_compute_firewall" "this" {
  for_each = var.rules

  name          = "${var.name}-${each.key}"
  project       = var.project_id
  network       = var.network_id
  direction     = "INGRESS"
  source_ranges = each.value.source_ranges
  target_tags   = [var.name]

  allow {
    protocol = "tcp"
    ports    = each.value.ports
  }
}
