# Each variable refuses what it cannot take. `terraform test` runs this without a provider.

variables {
  runtime       = "k3s"
  gpu           = "l4"
  project_id    = "my-project"
  zone          = "us-central1-a"
  source_ranges = ["203.0.113.7/32"]
  topology_file = "tests/topology.yaml"
}

run "takes_the_example" {
  command = plan
}

run "refuses_project_id" {
  command = plan

  variables {
    project_id = "My Project"
  }
  expect_failures = [var.project_id]
}

run "refuses_zone_region" {
  command = plan

  variables {
    zone = "us-central1"
  }
  expect_failures = [var.zone]
}

run "refuses_source_ranges_empty" {
  command = plan

  variables {
    source_ranges = []
  }
  expect_failures = [var.source_ranges]
}

run "refuses_source_ranges_none" {
  command = plan

  variables {
    source_ranges = null
  }
  expect_failures = [var.source_ranges]
}

run "refuses_source_ranges_no_range" {
  command = plan

  variables {
    source_ranges = ["203.0.113.7"]
  }
  expect_failures = [var.source_ranges]
}

run "refuses_source_ranges_that_begin_inside" {
  command = plan

  variables {
    source_ranges = ["203.0.113.7/24"]
  }
  expect_failures = [var.source_ranges]
}

run "refuses_source_ranges_ipv6" {
  command = plan

  variables {
    source_ranges = ["2001:db8::/32"]
  }
  expect_failures = [var.source_ranges]
}

run "refuses_source_ranges_any" {
  command = plan

  variables {
    source_ranges = ["203.0.113.7/32", "0.0.0.0/0"]
  }
  expect_failures = [var.source_ranges]
}

run "refuses_source_ranges_half_of_any" {
  command = plan

  variables {
    source_ranges = ["0.0.0.0/1", "128.0.0.0/1"]
  }
  expect_failures = [var.source_ranges]
}

run "refuses_allow_any_source" {
  command = plan

  variables {
    allow_any_source = null
  }
  expect_failures = [var.allow_any_source]
}

run "refuses_name_short" {
  command = plan

  variables {
    name = "llm"
  }
  expect_failures = [var.name]
}

run "refuses_name_upper_case" {
  command = plan

  variables {
    name = "LLM-bench"
  }
  expect_failures = [var.name]
}

run "refuses_topology_file_missing" {
  command = plan

  variables {
    topology_file = "missing.yaml"
  }
  expect_failures = [var.topology_file]
}

run "refuses_topology_file_without_models" {
  command = plan

  variables {
    topology_file = "machines.yaml"
  }
  expect_failures = [var.topology_file]
}

run "refuses_topology_file_with_a_model_without_gpus" {
  command = plan

  variables {
    topology_file = "tests/no-gpus.yaml"
  }
  expect_failures = [var.topology_file]
}

run "refuses_models_unknown" {
  command = plan

  variables {
    models = ["llama-9"]
  }
  expect_failures = [var.models]
}

run "refuses_models_of_cpus" {
  command = plan

  variables {
    models = ["tiny-llama"]
  }
  expect_failures = [var.models]
}

run "refuses_machine_type_no_name" {
  command = plan

  variables {
    machine_type = "g2 standard 96"
  }
  expect_failures = [var.machine_type]
}

run "refuses_provisioning" {
  command = plan

  variables {
    provisioning = "preemptible"
  }
  expect_failures = [var.provisioning]
}

run "refuses_max_run_hours_zero" {
  command = plan

  variables {
    max_run_hours = 0
  }
  expect_failures = [var.max_run_hours]
}

run "refuses_max_run_hours_more_than_a_week" {
  command = plan

  variables {
    max_run_hours = 169
  }
  expect_failures = [var.max_run_hours]
}

run "refuses_max_run_hours_part_of_an_hour" {
  command = plan

  variables {
    max_run_hours = 1.5
  }
  expect_failures = [var.max_run_hours]
}

run "refuses_max_run_hours_none" {
  command = plan

  variables {
    max_run_hours = null
  }
  expect_failures = [var.max_run_hours]
}

run "refuses_boot_disk_gib" {
  command = plan

  variables {
    boot_disk_gib = 50
  }
  expect_failures = [var.boot_disk_gib]
}

run "refuses_model_cache_gib" {
  command = plan

  variables {
    model_cache_gib = 10.5
  }
  expect_failures = [var.model_cache_gib]
}

run "refuses_image" {
  command = plan

  variables {
    image = "ubuntu-2404-lts"
  }
  expect_failures = [var.image]
}

run "refuses_labels_upper_case" {
  command = plan

  variables {
    labels = { Team = "ml" }
  }
  expect_failures = [var.labels]
}

run "refuses_labels_value" {
  command = plan

  variables {
    labels = { team = "ML" }
  }
  expect_failures = [var.labels]
}

run "refuses_labels_that_are_set_already" {
  command = plan

  variables {
    labels = { app = "mine" }
  }
  expect_failures = [var.labels]
}

run "takes_null_for_what_has_a_default" {
  command = plan

  variables {
    models       = null
    provisioning = null
    labels       = null
  }

  assert {
    condition     = output.node.scheduling.provisioning_model == "STANDARD" && output.sizing.replicas == 6
    error_message = jsonencode(output.node.scheduling)
  }
}

run "refuses_machine_usd_per_hour" {
  command = plan

  variables {
    machine_usd_per_hour = -1
  }
  expect_failures = [var.machine_usd_per_hour]
}

run "refuses_runtime" {
  command = plan

  variables {
    runtime = "docker"
  }
  expect_failures = [var.runtime]
}

run "refuses_gpu" {
  command = plan

  variables {
    gpu = "t4"
  }
  expect_failures = [var.gpu]
}
