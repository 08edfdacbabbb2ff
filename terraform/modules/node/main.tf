# The node with its disks, and a service account that can write logs and metrics, and nothing else.

variable "node" {
  description = "What to make: output node of node-config."
  type = object({
    name           = string
    project_id     = string
    zone           = string
    region         = string
    machine_type   = string
    image          = string
    startup_script = string
    labels         = map(string)
    disks          = object({ boot_gib = number, model_cache_gib = number })
    scheduling     = object({ provisioning_model = string, preemptible = bool, max_run_seconds = number })
  })
  nullable = false
}

variable "subnet_id" {
  description = "The subnet."
  type        = string
  nullable    = false
}

locals {
  flex_start = var.node.scheduling.provisioning_model == "FLEX_START"
}

resource "google_service_account" "this" {
  account_id   = var.node.name
  project      = var.node.project_id
  display_name = "Node ${var.node.name}"
}

resource "google_project_iam_member" "this" {
  for_each = toset(["roles/logging.logWriter", "roles/monitoring.metricWriter"])

  project = var.node.project_id
  role    = each.value
  member  = "serviceAccount:${google_service_account.this.email}"
}

# Google's own keys encrypt all disks. Weights are public, and hold no secrets.
resource "google_compute_disk" "model_cache" {
  #checkov:skip=CKV_GCP_37: see above
  name    = "${var.node.name}-model-cache"
  project = var.node.project_id
  zone    = var.node.zone
  type    = "pd-balanced"
  size    = var.node.disks.model_cache_gib
  labels  = var.node.labels
}

resource "google_compute_instance" "this" {
  #checkov:skip=CKV_GCP_38: Google's own keys encrypt all disks
  #checkov:skip=CKV_GCP_40: people reach the node by its address, from source_ranges alone
  name                      = var.node.name
  project                   = var.node.project_id
  zone                      = var.node.zone
  machine_type              = var.node.machine_type
  labels                    = var.node.labels
  tags                      = [var.node.name]
  allow_stopping_for_update = true
  deletion_protection       = false

  boot_disk {
    auto_delete = true

    initialize_params {
      image  = var.node.image
      size   = var.node.disks.boot_gib
      type   = "pd-ssd"
      labels = var.node.labels
    }
  }

  attached_disk {
    source      = google_compute_disk.model_cache.id
    device_name = "model-cache"
  }

  network_interface {
    subnetwork = var.subnet_id
    nic_type   = "GVNIC"

    access_config {}
  }

  # The time limit deletes the node; a machine with GPUs cannot be migrated.
  scheduling {
    provisioning_model          = var.node.scheduling.provisioning_model
    preemptible                 = var.node.scheduling.preemptible
    automatic_restart           = false
    on_host_maintenance         = "TERMINATE"
    instance_termination_action = "DELETE"

    max_run_duration {
      seconds = var.node.scheduling.max_run_seconds
    }
  }

  dynamic "reservation_affinity" {
    for_each = local.flex_start ? [true] : []

    content {
      type = "NO_RESERVATION"
    }
  }

  service_account {
    email  = google_service_account.this.email
    scopes = ["https://www.googleapis.com/auth/logging.write", "https://www.googleapis.com/auth/monitoring.write"]
  }

  shielded_instance_config {
    enable_secure_boot          = true
    enable_vtpm                 = true
    enable_integrity_monitoring = true
  }

  # No secrets: everybody on the node can read its metadata.
  metadata = {
    enable-oslogin         = "TRUE"
    block-project-ssh-keys = "TRUE"
    serial-port-enable     = "FALSE"
    startup-script         = var.node.startup_script
  }

  lifecycle {
    # A family has a new image every few weeks: that is no reason to replace a node at work. Machines with
    # H100s get local SSDs that nobody has asked for.
    ignore_changes = [boot_disk[0].initialize_params[0].image, scratch_disk]
  }
}

output "instance_ip" {
  description = "The node's address."
  value       = google_compute_instance.this.network_interface[0].access_config[0].nat_ip
}
