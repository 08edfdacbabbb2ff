# What follows from the variables, and what does not fit. `terraform test` runs this without a provider.

variables {
  runtime       = "k3s"
  gpu           = "l4"
  project_id    = "my-project"
  zone          = "us-central1-a"
  source_ranges = ["203.0.113.7/32"]
  topology_file = "tests/topology.yaml"
}

run "a_forgotten_node_is_deleted" {
  command = plan

  assert {
    condition     = output.node.scheduling.max_run_seconds == 8 * 3600
    error_message = "${output.node.scheduling.max_run_seconds} s"
  }
}

run "ports_of_k3s" {
  command = plan

  assert {
    condition = jsonencode(output.firewall) == jsonencode({
      api       = { ports = ["6443"], source_ranges = ["203.0.113.7/32"] }
      nodeports = { ports = ["30000-32767"], source_ranges = ["203.0.113.7/32"] }
      ssh       = { ports = ["22"], source_ranges = ["203.0.113.7/32"] }
    })
    error_message = jsonencode(output.firewall)
  }
}

run "ports_of_compose_are_those_of_arms" {
  command = plan

  variables {
    runtime = "compose"
    gpu     = "h100"
  }

  assert {
    condition     = keys(output.firewall) == ["balancers", "ssh"] && contains(output.firewall.balancers.ports, "8080")
    error_message = jsonencode(output.firewall)
  }
}

run "any_source_if_it_is_meant" {
  command = plan

  variables {
    source_ranges    = ["0.0.0.0/0"]
    allow_any_source = true
  }

  assert {
    condition     = output.firewall.ssh.source_ranges == tolist(["0.0.0.0/0"])
    error_message = jsonencode(output.firewall)
  }
}

run "the_smallest_machine_with_room" {
  command = plan

  variables {
    models = ["qwen2.5-7b"]
  }

  assert {
    condition     = output.node.machine_type == "g2-standard-24" && output.sizing.arms_at_once == 1
    error_message = jsonencode(output.sizing)
  }
}

run "a_larger_machine_has_both_arms_at_once" {
  command = plan

  variables {
    models       = ["qwen2.5-7b"]
    machine_type = "g2-standard-48"
  }

  assert {
    condition     = output.sizing.arms_at_once == 2
    error_message = jsonencode(output.sizing)
  }
}

run "on_demand_has_no_small_a3" {
  command = plan

  variables {
    gpu    = "h100"
    models = ["qwen2.5-7b"]
  }

  assert {
    condition     = output.node.machine_type == "a3-highgpu-8g"
    error_message = output.node.machine_type
  }
}

run "spot_has" {
  command = plan

  variables {
    gpu          = "h100"
    models       = ["qwen2.5-7b"]
    provisioning = "spot"
  }

  assert {
    condition     = output.node.machine_type == "a3-highgpu-2g" && output.node.scheduling.provisioning_model == "SPOT" && output.node.scheduling.preemptible
    error_message = jsonencode(output.node.scheduling)
  }
  assert {
    condition     = strcontains(output.quota_hint, "PREEMPTIBLE_NVIDIA_H100_GPUS >= 2 in us-central1")
    error_message = output.quota_hint
  }
}

run "flex_start" {
  command = plan

  variables {
    provisioning = "flex-start"
  }

  assert {
    condition     = output.node.scheduling.provisioning_model == "FLEX_START" && !output.node.scheduling.preemptible
    error_message = jsonencode(output.node.scheduling)
  }
}

run "refuses_a_machine_with_too_few_gpus" {
  command = plan

  variables {
    machine_type = "g2-standard-48"
  }
  expect_failures = [output.node]
}

run "refuses_a_machine_with_other_gpus" {
  command = plan

  variables {
    machine_type = "a3-highgpu-8g"
  }
  expect_failures = [output.node]
}

run "refuses_a_machine_that_is_not_had_on_demand" {
  command = plan

  variables {
    gpu          = "h100"
    models       = ["qwen2.5-7b"]
    machine_type = "a3-highgpu-2g"
  }
  expect_failures = [output.node]
}

run "refuses_a_topology_without_models_for_gpus" {
  command = plan

  variables {
    topology_file = "tests/cpus.yaml"
  }
  expect_failures = [output.node]
}

run "refuses_a_model_that_is_too_large_for_its_gpus" {
  command = plan

  variables {
    topology_file = "tests/mixtral.yaml"
  }
  expect_failures = [output.node]
}

run "takes_it_on_larger_gpus" {
  command = plan

  variables {
    topology_file = "tests/mixtral.yaml"
    gpu           = "h100"
  }

  assert {
    condition     = output.sizing.gpus_of_an_arm == 4 && output.sizing.arms_at_once == 2 && output.node.disks.model_cache_gib == 190
    error_message = jsonencode(output.sizing)
  }
}

run "the_price_is_that_of_the_list" {
  command = plan

  assert {
    # 8.00 for the machine, 220 GiB x 0.17 + 100 GiB x 0.10 in a month of 730 hours, 0.005.
    condition     = output.cost.per_hour == 8.07 && output.cost.until_deleted == 64.56 && output.cost.model_cache_per_month == 10
    error_message = jsonencode(output.cost)
  }
}

run "or_yours" {
  command = plan

  variables {
    machine_usd_per_hour = 0
    boot_disk_gib        = 365
    model_cache_gib      = 365
  }

  assert {
    # (365 x 0.17 + 365 x 0.10) / 730 + 0.005
    condition     = output.cost.per_hour == 0.14
    error_message = jsonencode(output.cost)
  }
}
