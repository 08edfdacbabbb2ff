# K3s with NVIDIA's runtime as its default, and the device plugin that offers GPUs to pods.
# shellcheck shell=bash

install_runtime() {
  step "K3s $K3S" install_k3s
  step "NVIDIA device plugin $DEVICE_PLUGIN" install_device_plugin
}

install_k3s() {
  local address changed=false
  address="$(curl --fail --silent --show-error --retry 5 --header 'Metadata-Flavor: Google' \
    http://metadata.google.internal/computeMetadata/v1/instance/network-interfaces/0/access-configs/0/external-ip)"
  # The manifests name no RuntimeClass, so that they are the same everywhere.
  write /etc/rancher/k3s/config.yaml <<EOF && changed=true
default-runtime: nvidia
disable: [traefik]
tls-san: ["$address"]
write-kubeconfig-mode: "0600"
EOF
  if [[ $(k3s --version 2>/dev/null || true) != *"$K3S"* ]]; then
    fetch "https://raw.githubusercontent.com/k3s-io/k3s/${K3S/+/%2B}/install.sh" "$STATE/install-k3s.sh"
    INSTALL_K3S_VERSION="$K3S" sh "$STATE/install-k3s.sh"
  elif [[ $changed == true ]]; then
    systemctl restart k3s.service
  fi
  eventually 300 k3s kubectl wait --for condition=Ready node --all --timeout 10s
}

install_device_plugin() {
  local manifest="$STATE/device-plugin-$DEVICE_PLUGIN.yaml"
  [[ -s $manifest ]] || fetch \
    "https://raw.githubusercontent.com/NVIDIA/k8s-device-plugin/$DEVICE_PLUGIN/deployments/static/nvidia-device-plugin.yml" \
    "$manifest"
  k3s kubectl apply --filename "$manifest"
  eventually 300 offers_gpus
}

offers_gpus() {
  [[ $(k3s kubectl get nodes --output jsonpath='{.items[0].status.allocatable.nvidia\.com/gpu}') == "$GPUS" ]]
}

describe_runtime() {
  echo "K3s $K3S, which offers them to pods"
}
