# What every node has: packages, the disk for weights, working GPUs, NVIDIA's container toolkit.
#
# It may run any number of times, and changes only what differs. All that it does is in $LOG. $STATUS has
# one line, which `python -m bench wait` reads: "running: ...", "failed: ..." or "ready: ...".
# shellcheck shell=bash

set -Eeuo pipefail
umask 022

readonly STATE=/var/lib/llm-bench
readonly STATUS=$STATE/status
readonly LOG=/var/log/llm-bench-startup.log
readonly CACHE=/mnt/model-cache
readonly CACHE_DISK=/dev/disk/by-id/google-model-cache
export DEBIAN_FRONTEND=noninteractive

main() {
  mkdir -p "$STATE"
  # A second one waits for the first.
  exec 9>"$STATE/lock"
  flock 9
  exec >>"$LOG" 2>&1
  trap 'failed $? $LINENO "$BASH_COMMAND"' ERR
  step "packages" base_packages
  step "disk for weights" mount_cache
  step "GPUs" check_gpus
  step "NVIDIA container toolkit $CONTAINER_TOOLKIT" install_toolkit
  install_runtime
  status "ready: $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader -i 0), $GPUS of them; $(describe_runtime)"
}

status() {
  echo "$(date --utc +%FT%TZ) $*"
  echo "$*" >"$STATUS.new"
  mv "$STATUS.new" "$STATUS"
}

step() {
  status "running: $1"
  "${@:2}"
}

failed() {
  status "failed: line $2 of the startup script, \`$3\`, ended with $1; see $LOG"
  exit "$1"
}

refuse() {
  status "failed: $*; see $LOG"
  exit 1
}

# eventually SECONDS COMMAND...: repeats a command until it succeeds.
eventually() {
  local deadline=$((SECONDS + $1))
  until "${@:2}"; do
    ((SECONDS < deadline)) || refuse "\`${*:2}\` did not succeed within $1 s"
    sleep 2
  done
}

# fetch URL FILE
fetch() {
  mkdir -p "$(dirname "$2")"
  curl --fail --silent --show-error --location --proto '=https' --retry 5 --retry-all-errors --output "$2.new" "$1"
  mv "$2.new" "$2"
}

# write FILE: standard input becomes the file's text. Fails, without harm, if the file had it already.
write() {
  mkdir -p "$(dirname "$1")"
  cat >"$1.new"
  if cmp --silent "$1.new" "$1"; then
    rm "$1.new"
    return 1
  fi
  mv "$1.new" "$1"
}

# install_packages NAME | NAME=VERSION ...: those that are missing. A VERSION may end with *.
install_packages() {
  local package version missing=()
  for package in "$@"; do
    version="$(dpkg-query --show --showformat '${Version}' "${package%%=*}" 2>/dev/null || true)"
    # shellcheck disable=SC2053 # the pattern is meant
    [[ -n $version && ($package != *=* || $version == ${package#*=}) ]] || missing+=("$package")
  done
  ((${#missing[@]})) || return 0
  apt-get --quiet update
  apt-get --quiet --yes --option DPkg::Lock::Timeout=600 --option Acquire::Retries=5 \
    install --no-install-recommends --allow-downgrades --allow-change-held-packages "${missing[@]}"
}

# add_repository NAME KEY_URL LINE: a source of packages whose key is $KEYS/NAME.asc.
readonly KEYS=/etc/apt/keyrings
add_repository() {
  [[ -s $KEYS/$1.asc ]] || fetch "$2" "$KEYS/$1.asc"
  write "/etc/apt/sources.list.d/$1.list" <<<"$3" || true
}

base_packages() {
  # Upgrades would take CPU while something is measured, and replace the driver beneath it.
  systemctl disable --now --quiet unattended-upgrades.service apt-daily.timer apt-daily-upgrade.timer || true
  systemctl stop --quiet apt-daily.service apt-daily-upgrade.service || true
  install_packages ca-certificates curl gcc git libnuma1 make python3-venv
}

mount_cache() {
  local found=0
  eventually 60 blockdev --getsize64 "$CACHE_DISK"
  blkid --probe "$CACHE_DISK" || found=$?
  case $found in
    0) ;;
    2) mkfs.ext4 -q -m 0 "$CACHE_DISK" ;; # nothing is on it
    *) refuse "blkid cannot tell what is on $CACHE_DISK" ;;
  esac
  grep --quiet " $CACHE " /etc/fstab || echo "$CACHE_DISK $CACHE ext4 discard,nofail 0 2" >>/etc/fstab
  mkdir -p "$CACHE"
  mountpoint --quiet "$CACHE" || mount "$CACHE"
  resize2fs "$CACHE_DISK" # where the disk was enlarged
  # The engines' user is in group 0.
  install -d -g 0 -m 2775 "$CACHE/huggingface"
}

check_gpus() {
  local seen driver
  seen="$(nvidia-smi --query-gpu=name --format=csv,noheader | wc -l)"
  ((seen == GPUS)) || refuse "nvidia-smi shows $seen GPUs in place of $GPUS: is the driver that of the image?"
  [[ $NVSWITCH == true ]] || return 0
  driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader -i 0)"
  install_packages "nvidia-fabricmanager-${driver%%.*}=$driver*"
  systemctl enable --now nvidia-fabricmanager.service
}

install_toolkit() {
  add_repository nvidia-container-toolkit https://nvidia.github.io/libnvidia-container/gpgkey \
    "deb [signed-by=$KEYS/nvidia-container-toolkit.asc] https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /"
  install_packages {nvidia-container-toolkit,nvidia-container-toolkit-base,libnvidia-container-tools,libnvidia-container1}"=$CONTAINER_TOOLKIT"
}
