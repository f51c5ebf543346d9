#!/usr/bin/env bash
# Runs all tests. The shaders are tested on any Vulkan, Metal or DX12 adapter; on Linux also on several software drivers, in a
# browser, and by the tools of the shading languages. What is missing is installed if possible (apt, as root or through sudo without a
# password). Otherwise this says what to install, and how to leave its tests out.
#
#     tests/run.sh                    all tests
#     tests/run.sh --quick            what needs no GPU and no other program: unit tests, the binary, documents, packages
#     tests/run.sh --vendors          compiles all kernels with the compilers of GPU vendors' drivers, and runs none (tests/vendors.rs);
#                                     exits with 3 if these drivers cannot be unpacked
#     tests/run.sh --test kernels     other arguments go to `cargo test`
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --quick ]; then
    shift
    echo 'quick: leaving out all tests that need a GPU, a browser, Node.js or Python'
    export GPU_GAN_SKIP_GPU=1 GPU_GAN_SKIP_TRANSLATIONS=1 GPU_GAN_SKIP_VALIDATION=1 GPU_GAN_SKIP_GL=1 \
        GPU_GAN_SKIP_SWIFTSHADER=1 GPU_GAN_SKIP_TINT=1 GPU_GAN_SKIP_WORKFLOWS=1 GPU_GAN_SKIP_PYTHON=1
    exec cargo test --release --locked --lib --test api --test cli --test documents --test packages --test rooms "$@"
fi

# Not piped into grep, which may end before the list does; that would be an error.
has_library() {
    [[ "$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p)" == *"$1"* ]]
}

has_commands() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || return 1
    done
}

has_mpi() {
    # Building against MPI also needs libclang, which reads MPI's headers.
    has_commands mpicc mpirun && { has_library libclang.so || compgen -G '/usr/lib/llvm-*/lib/libclang[.-][s0-9]*' >/dev/null; }
}

if [ "${1:-}" = --vendors ]; then
    shift
    folder="$(realpath -m "${CARGO_TARGET_DIR:-target}/vendors")"
    # Mesa's drivers of a newer Debian and all libraries that they need, once. They are unpacked and not installed, so nothing on the
    # system changes, and this needs no root.
    unpack() {
        local key=/usr/share/keyrings/debian-archive-keyring.gpg mirror package
        # shellcheck disable=SC2016 # apt-get replaces the name
        mirror="$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m 1 '/debian/$')" || return 1
        [ -f "$key" ] || return 1
        rm -rf "$folder"
        mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
        printf "deb [signed-by=$key] $mirror %s main\n" trixie trixie-backports >"$folder/apt/sources"
        local options=(-qq -o Dir::Etc::sourcelist="$folder/apt/sources" -o Dir::Etc::sourceparts=- -o Dir::State::status=/dev/null
            -o Dir::State::lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" -o APT::Sandbox::User=
            -o APT::Architecture=amd64 -o APT::Architectures=amd64 -o Debug::NoLocking=1)
        apt-get "${options[@]}" update &&
            apt-get "${options[@]}" --no-install-recommends --yes --download-only install \
                mesa-drm-shim/trixie-backports mesa-vulkan-drivers/trixie-backports libvulkan1 libc6 >/dev/null || return 1
        for package in "$folder"/apt/cache/archives/*.deb; do
            dpkg-deb --extract "$package" "$folder" || return 1
        done
        rm -rf "$folder/apt" "$folder/usr/share/doc"
        touch "$folder/complete"
    }
    if ! [ -f "$folder/complete" ]; then
        echo "unpacking drivers of GPU vendors into $folder"
        if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ] || ! unpack; then
            echo "error: the drivers of GPU vendors cannot be unpacked into $folder" >&2
            echo 'hint:  that needs Linux on x86-64, apt and dpkg-deb of Debian, and a mirror of Debian that can be reached' >&2
            exit 3
        fi
    fi
    export GPU_GAN_VENDORS="$folder"
    # With the features of the other tests if that is possible, so that nothing is built again.
    features=()
    [ "${GPU_GAN_SKIP_MPI:-}" = 1 ] || ! has_mpi || features=(--features mpi)
    exec cargo test --release --locked "${features[@]}" --test vendors -- --ignored --nocapture "$@"
fi

has_vulkan_driver() {
    # The loader, and at least one driver that it can load.
    has_library libvulkan.so.1 || return 1
    [ -n "${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-}" ] && return 0
    compgen -G '/usr/share/vulkan/icd.d/*.json' >/dev/null || compgen -G '/etc/vulkan/icd.d/*.json' >/dev/null
}

has_validation() {
    [ -f /usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json ]
}

has_venv() {
    python3 -c 'import ensurepip, venv' 2>/dev/null
}

has_browser() {
    [ -x /usr/bin/chromium ] || [ -x /usr/bin/google-chrome ]
}

if ! command -v cargo >/dev/null; then
    echo 'error: cargo was not found' >&2
    echo 'hint:  install Rust with rustup (https://rustup.rs), then run this again' >&2
    exit 1
fi

packages=''
hints=''

# need PARTS PACKAGES CHECK...: notes PACKAGES as missing if CHECK fails, unless GPU_GAN_SKIP_PART is 1 for all of PARTS.
need() {
    local parts="$1" wanted="$2" part
    shift 2
    local skips=''
    for part in $parts; do
        skips="$skips GPU_GAN_SKIP_$part=1"
        [ "$(printenv "GPU_GAN_SKIP_$part" || true)" = 1 ] || local needed=yes
    done
    if [ "${needed:-}" = yes ] && ! "$@"; then
        packages="$packages $wanted"
        hints="$hints
       $wanted (or$skips)"
    fi
}

if [ "$(uname -s)" = Linux ]; then
    if [ "${GPU_GAN_SKIP_GPU:-}" = 1 ]; then
        export GPU_GAN_SKIP_VALIDATION=1 GPU_GAN_SKIP_GL=1 GPU_GAN_SKIP_SWIFTSHADER=1 GPU_GAN_SKIP_TINT=1
    fi
    need GPU 'libvulkan1 mesa-vulkan-drivers' has_vulkan_driver
    need TRANSLATIONS 'spirv-tools glslang-tools' has_commands spirv-val glslangValidator
    need VALIDATION vulkan-validationlayers has_validation
    need GL 'libegl1 libegl-mesa0 libgl1-mesa-dri' has_library libEGL_mesa.so
    need 'SWIFTSHADER TINT' chromium has_browser
    need 'TINT WORKFLOWS' nodejs has_commands node
    need PYTHON 'python3 python3-venv' has_venv
    need MPI 'openmpi-bin libopenmpi-dev libclang-dev' has_mpi
    # Node.js from elsewhere than Debian brings npm.
    need 'TINT WORKFLOWS' npm has_commands npm
fi

if [ -n "$packages" ]; then
    as_root=''
    [ "$(id -u)" = 0 ] || as_root='sudo -n'
    if command -v apt-get >/dev/null && { [ -z "$as_root" ] || $as_root true 2>/dev/null; }; then
        echo "installing$packages"
        $as_root apt-get update -qq
        # shellcheck disable=SC2086 # a list of words
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages
    else
        echo "error: packages are missing that the tests need, and installing them needs root" >&2
        echo "hint:  install these packages of Debian and Ubuntu, or their counterparts (Fedora: mesa-vulkan-drivers," >&2
        echo "       vulkan-loader; Arch: vulkan-swrast), or leave their tests out by the variable:$hints" >&2
        exit 1
    fi
fi

# The packages of tests/node, once.
if [ "${GPU_GAN_SKIP_TINT:-} ${GPU_GAN_SKIP_WORKFLOWS:-}" != '1 1' ] && command -v npm >/dev/null &&
    ! [ tests/node/node_modules/.package-lock.json -nt tests/node/package-lock.json ]; then
    npm ci --prefix tests/node --no-audit --no-fund --ignore-scripts --silent
fi

# The packages of tests/python, once.
if [ "${GPU_GAN_SKIP_PYTHON:-}" != 1 ]; then
    python="${CARGO_TARGET_DIR:-target}/python"
    if ! [ "$python/installed" -nt tests/python/requirements.txt ]; then
        python3 -m venv "$python"
        "$python/bin/python" -m pip install --quiet --disable-pip-version-check -r tests/python/requirements.txt
        touch "$python/installed"
    fi
fi

# Without a desktop, Mesa's device selection layer prints errors of its own.
[ -n "${XDG_RUNTIME_DIR:-}" ] || export NODEVICE_SELECT=1

# With the feature `mpi`, which builds only where there is an MPI: the program is otherwise the same.
features=()
if [ "$(uname -s)" = Linux ] && [ "${GPU_GAN_SKIP_MPI:-}" != 1 ]; then
    features=(--features mpi)
else
    echo 'leaving out the tests of training by several processes (GPU_GAN_SKIP_MPI=1, or not Linux)'
fi

# In release, as `cargo run --release` builds it: the tests train networks. The examples are not built here; clippy compiles them.
[ $# = 0 ] || exec cargo test --release --locked "${features[@]}" "$@"

# Other drivers and browsers compile on one core, so their tests run beside the others. The tests of the binary come first and alone, as
# some of them measure time.
others=()
for path in tests/*.rs tests/*/main.rs; do
    name="$(basename "${path%/main.rs}" .rs)"
    case "$name" in
        cli | drivers | page | tint) ;;
        *) others+=(--test "$name") ;;
    esac
done
cargo test --release --locked "${features[@]}" --no-run --lib --test '*'
cargo test --release --locked "${features[@]}" --lib --test cli
log="$(mktemp)"
cargo test --release --locked "${features[@]}" --test drivers --test page --test tint >"$log" 2>&1 &
beside=$!
trap 'kill "$beside" 2>/dev/null || true; rm -f "$log"' EXIT
status=0
cargo test --release --locked "${features[@]}" "${others[@]}" || status=$?
wait "$beside" || status=$?
cat "$log"
[ "$status" = 0 ] || exit "$status"
cargo test --release --locked "${features[@]}" --doc
