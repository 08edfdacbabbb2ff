# Docker with Compose and NVIDIA's runtime.
# shellcheck shell=bash

install_runtime() {
  step "Docker $DOCKER" install_docker
}

install_docker() {
  local before
  add_repository docker https://download.docker.com/linux/ubuntu/gpg \
    "deb [arch=amd64 signed-by=$KEYS/docker.asc] https://download.docker.com/linux/ubuntu noble stable"
  install_packages "docker-ce=$DOCKER" "docker-ce-cli=$DOCKER" "containerd.io=$CONTAINERD" \
    "docker-compose-plugin=$DOCKER_COMPOSE"
  before="$(cat /etc/docker/daemon.json 2>/dev/null || true)"
  nvidia-ctk runtime configure --runtime=docker
  [[ $(cat /etc/docker/daemon.json) == "$before" ]] || systemctl restart docker.service
  eventually 60 has_nvidia_runtime
}

has_nvidia_runtime() {
  docker info --format '{{range $name, $_ := .Runtimes}}{{$name}} {{end}}' | grep --quiet --word-regexp nvidia
}

describe_runtime() {
  echo "Docker $DOCKER with NVIDIA's runtime"
}
