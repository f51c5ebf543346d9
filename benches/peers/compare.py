"""Times our training step and a peer's in turn, in one run on one machine, so that other load affects both.

    python benches/peers/compare.py --model dcgan-small --device cpu --peer pytorch --peer burn

Builds both, times them in rounds, and prints the medians over the rounds, their ratios and all figures. A peer that cannot run on this
machine is left out, with a message. Needs only Python; the files of the peers name their requirements. Ours is `gpu-gan bench --steps`,
which compares a step with the CPU in f64 before it times one.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).resolve().parent
ROOT = PEERS.parent.parent


class Missing(Exception):
    """A requirement of a contestant is missing."""


def run(command, **options):
    """The last line that a command prints. If it fails, its message is the reason why the contestant is missing."""
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    except FileNotFoundError:
        raise Missing(f"{command[0]} is not installed")
    if done.returncode != 0:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Missing(said[-1] if said else f"{command[0]} ended with code {done.returncode}")
    return done.stdout


def target_of(folder, default):
    return Path(os.environ.get(default) or folder / "target") / "release"


class Ours:
    """gpu-gan."""

    def __init__(self, arguments):
        self.name = "gpu-gan"
        print("building gpu-gan", file=sys.stderr)
        run(["cargo", "build", "--release"], cwd=ROOT)
        device = arguments.our_device or {"cpu": "cpu", "cuda": "gpu"}[arguments.device]
        self.command = [target_of(ROOT, "CARGO_TARGET_DIR") / "gpu-gan", "bench", "--steps", "--json",
                        "--model", arguments.model, "--device", device, "--seconds", arguments.seconds]
        self.command += ["--batch-size", arguments.batch_size] if arguments.batch_size else []
        self.environment = {"RAYON_NUM_THREADS": str(arguments.threads)} if arguments.threads else {}

    def measure(self):
        report = json.loads(run(self.command, env=os.environ | self.environment))
        return dict(peer=f"gpu-gan {report['version']}", device=report["device"], batch_size=report["batch_size"],
                    **{key: report["step"][key] for key in ("milliseconds", "fastest_milliseconds")})


class PyTorch:
    """PyTorch, eager or compiled."""

    def __init__(self, arguments, *flags):
        self.name = " ".join(["PyTorch", *(flag.strip("-") for flag in flags)])
        self.command = [arguments.python, PEERS / "pytorch.py", "--json", "--model", arguments.model,
                        "--device", arguments.device, "--seconds", arguments.seconds, *flags]
        self.command += ["--batch-size", arguments.batch_size] if arguments.batch_size else []
        self.command += ["--threads", arguments.threads] if arguments.threads else []

    def measure(self):
        return json.loads(run(self.command).splitlines()[-1])


class Burn:
    """burn, with the flex backend on the CPU or a GPU backend."""

    def __init__(self, arguments, backend="wgpu"):
        backend = "flex" if arguments.device == "cpu" else backend
        self.name = f"burn {backend}"
        if arguments.model != "dcgan-small":
            raise Missing("the step in burn is that of dcgan-small alone")
        print("building burn, which takes minutes the first time", file=sys.stderr)
        folder = PEERS / "burn"
        target = target_of(folder, "BURN_TARGET_DIR").parent / backend  # each backend has a build of its own
        run(["cargo", "build", "--release", *([] if backend == "flex" else ["--features", backend])], cwd=folder,
            env=os.environ | {"CARGO_TARGET_DIR": str(target)})
        self.command = [target / "release" / "burn-peer", "--device", backend, "--seconds", arguments.seconds]
        self.command += ["--batch-size", arguments.batch_size] if arguments.batch_size else []
        self.environment = {"RAYON_NUM_THREADS": str(arguments.threads)} if arguments.threads else {}

    def measure(self):
        return json.loads(run(self.command, env=os.environ | self.environment).splitlines()[-1])


CONTESTANTS = {
    "pytorch": PyTorch,
    "pytorch-compile": lambda arguments: PyTorch(arguments, "--compile"),
    "pytorch-tf32": lambda arguments: PyTorch(arguments, "--tf32"),
    "pytorch-compile-tf32": lambda arguments: PyTorch(arguments, "--compile", "--tf32"),
    "pytorch-tutorial": lambda arguments: PyTorch(arguments, "--tutorial"),
    "burn": Burn,
    "burn-vulkan": lambda arguments: Burn(arguments, "vulkan"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["dcgan-fast", "dcgan-small", "dcgan-28", "dcgan-64"], default="dcgan-small")
    parser.add_argument("--batch-size", type=int, help="default: the model's own")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="device of the peers and of gpu-gan")
    parser.add_argument("--our-device", help="--device of gpu-gan, if different; see `gpu-gan devices`")
    parser.add_argument("--peer", choices=CONTESTANTS, action="append", help="can be repeated; default: pytorch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="seconds per contestant and round")
    parser.add_argument("--threads", type=int, help="CPU threads of each contestant; default: its own choice")
    parser.add_argument("--python", default=sys.executable, help="the Python that has PyTorch")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds cannot be less than 1")

    try:
        contestants = [Ours(arguments)]
    except Missing as reason:
        sys.exit(f"gpu-gan cannot be measured: {reason}")
    for peer in arguments.peer or ["pytorch"]:
        try:
            contestants.append(CONTESTANTS[peer](arguments))
        except Missing as reason:
            print(f"LEFT OUT {peer}: {reason}", file=sys.stderr)

    figures = {}
    for number in range(arguments.rounds):
        for contestant in list(contestants):
            try:
                figure = contestant.measure()
            except Missing as reason:
                if contestant.name == "gpu-gan":
                    sys.exit(f"gpu-gan cannot be measured: {reason}")
                print(f"LEFT OUT {contestant.name}: {reason}", file=sys.stderr)
                contestants.remove(contestant)
                continue
            figures.setdefault(contestant.name, []).append(figure)
            print(f"round {number + 1}: {contestant.name:<22} {figure['milliseconds']:>10.3f} ms", file=sys.stderr)

    ours = statistics.median(figure["milliseconds"] for figure in figures["gpu-gan"])
    print(f"\n{arguments.model}: a step in ms, median of {arguments.rounds} rounds; ratio: how many times as fast ours is")
    for name, rounds in figures.items():
        all_of_it = [figure["milliseconds"] for figure in rounds]
        median = statistics.median(all_of_it)
        first = rounds[0]
        raw = ", ".join(f"{value:.3f}" for value in all_of_it)
        print(f"{name:<22} {median:>10.3f} ms  {first['batch_size'] / median * 1e3:>9.0f} images/s  "
              f"ratio {median / ours:>5.2f}  [{raw}]  {first['peer']} on {first['device']}, batch {first['batch_size']}")
    if arguments.json:
        arguments.json.write_text(json.dumps(dict(model=arguments.model, figures=figures), indent=2) + "\n")


if __name__ == "__main__":
    main()
