#!/usr/bin/env bash
# Stands for the programs that need a network, a disk or a GPU. It is called by their names, writes each
# call down, and remembers in $MADE what would have been installed, formatted, mounted or changed.
set -euo pipefail

name="$(basename "$0")"
echo "$name $*" >>"$MADE/calls"
last="${*: -1}"

case "$name $*" in
  "${FAIL:-none}"*) exit 7 ;;
  dpkg-query*) grep "^$last=" "$MADE/packages" | cut -d= -f2 | tr -d '*' | grep . ;;
  "apt-get "*" install "*)
    for package in "$@"; do
      [[ $package == -* || $package == install || $package == *:: || $package == *::* ]] && continue
      [[ $package == *=* ]] || package="$package=1.0"
      echo "$package" >>"$MADE/packages"
    done
    ;;
  blkid*) [[ -e $MADE/formatted ]] || exit 2 ;;
  mkfs.ext4*) touch "$MADE/formatted" ;;
  mountpoint*) [[ -e $MADE/mounted ]] ;;
  mount*) touch "$MADE/mounted" ;;
  "nvidia-smi "*name,driver_version*) echo "NVIDIA GPU, 580.95.05" ;;
  "nvidia-smi "*driver_version*) echo 580.95.05 ;;
  nvidia-smi*) for ((i = 0; i < ${SEEN_GPUS:-$GPUS}; i++)); do echo "NVIDIA GPU"; done ;;
  "nvidia-ctk runtime configure"*)
    mkdir -p /etc/docker
    echo '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}' >/etc/docker/daemon.json
    ;;
  "docker info"*) echo "runc $(grep -o nvidia /etc/docker/daemon.json | head -1)" ;;
  curl*metadata*) echo "${ADDRESS:-203.0.113.9}" ;;
  curl*install.sh) echo "echo \$INSTALL_K3S_VERSION >$MADE/k3s" >"$(sed 's/.*--output \([^ ]*\) .*/\1/' <<<"$*")" ;;
  curl*) echo "from $last" >"$(sed 's/.*--output \([^ ]*\) .*/\1/' <<<"$*")" ;;
  "k3s --version") cat "$MADE/k3s" ;;
  "k3s kubectl get nodes"*) echo -n "$GPUS" ;;
  *) ;;
esac
