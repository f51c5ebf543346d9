#!/usr/bin/env bash
# Runs all tests. The shaders are tested on any Vulkan, Metal or DX12 adapter; where Linux has none, Mesa's software
# adapter is installed, if that may be done here (apt, as root or through sudo without a password).
#
# Arguments go to `cargo test`: `tests/run.sh --test kernels`.
set -euo pipefail
cd "$(dirname "$0")/.."

has_vulkan_driver() {
    # The loader, and at least one driver that it can load.
    { ldconfig -p 2>/dev/null || /sbin/ldconfig -p; } | grep -q 'libvulkan\.so\.1' || return 1
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null
}

if ! command -v cargo >/dev/null; then
    echo 'error: cargo is not there; install Rust with rustup, then run this again' >&2
    exit 1
fi

if [ "$(uname -s)" = Linux ] && [ "${GPU_GAN_SKIP_GPU:-}" != 1 ] && ! has_vulkan_driver; then
    packages='libvulkan1 mesa-vulkan-drivers'
    as_root=''
    [ "$(id -u)" = 0 ] || as_root='sudo -n'
    if command -v apt-get >/dev/null && { [ -z "$as_root" ] || $as_root true 2>/dev/null; }; then
        echo "no Vulkan driver: installing $packages"
        $as_root apt-get update -qq
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
    else
        echo "error: there is no Vulkan driver to test the shaders on" >&2
        echo "hint:  install Mesa's (Debian, Ubuntu: apt install $packages; Fedora: dnf install mesa-vulkan-drivers" >&2
        echo "       vulkan-loader; Arch: pacman -S vulkan-swrast), or leave those tests out with GPU_GAN_SKIP_GPU=1" >&2
        exit 1
    fi
fi

# Without a desktop, Mesa's device selection layer prints errors of its own.
[ -n "${XDG_RUNTIME_DIR:-}" ] || export NODEVICE_SELECT=1

# In release, as `cargo run --release` builds it: the tests train networks.
exec cargo test --release --locked "$@"
