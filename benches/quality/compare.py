"""Compares training recipes over several seeds: trains, evaluates, prints a table and plots the Fréchet distance.

    python benches/quality/compare.py --out quality --seeds 0-4 --recipe "default" --recipe "without R1: --r1 0"
    python benches/quality/compare.py --out quality --seeds 0-4 --course --plot courses.svg \\
        --recipe "dcgan-fast: --epochs 10" --recipe "dcgan-small: --model dcgan-small --epochs 20"

A recipe is a name and flags of `gpu-gan train`. The figures are from `gpu-gan eval`, for the last checkpoint, or with --course for each
epoch. Existing runs and reports are kept, so a comparison can be stopped, resumed and extended. --jobs seeds train at the same time and
share --threads threads; on the CPU device only time depends on that. For meaningful times, --course first trains one epoch of each recipe
alone, with all cores.

Needs Python 3.11; --plot needs matplotlib.
"""

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Recipe:
    """A name, flags of `gpu-gan train`, and the folder of its runs."""

    def __init__(self, text, out):
        self.name, _, flags = (part.strip() for part in text.partition(":"))
        self.flags = flags.split()
        self.folder = out / re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")

    def train(self, program, data, device, seed, out, threads, flags):
        """Trains to the end; resumes an interrupted run."""
        begun = list(out.glob("checkpoints/step-*.safetensors"))
        what = ["--resume", out] if begun else [data, "--seed", seed, "--out", fresh(out), *flags]
        run([program, "train", *what, "--device", device, "--eval-every", "never", "--sample-every", "1000epochs",
             "--keep-checkpoints", "all"], threads, out.with_suffix(".log"))

    def images_per_second(self, program, data, device, threads):
        """Real images per second of an epoch that runs alone, measured once, without start-up."""
        kept = self.folder / "epoch.json"
        if not kept.exists():
            out = self.folder / "epoch"
            self.train(program, data, device, 0, out, threads, without(self.flags, "--epochs", "--steps") + ["--epochs", 1])
            log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
            rates = [line["images_per_second"] for line in log if line.get("images_per_second")]
            kept.write_text(json.dumps(dict(images_per_second=statistics.median(rates))))
        return json.loads(kept.read_text())["images_per_second"]

    def figures(self, program, data, device, seed, threads, course):
        """The report of `gpu-gan eval` on the run of a seed, which is trained if it does not exist."""
        kept = self.folder / f"seed-{seed}.json"
        report = json.loads(kept.read_text()) if kept.exists() else {}
        if not report or (course and "checkpoints" not in report):
            out = self.folder / f"seed-{seed}"
            begin = time.perf_counter()
            if not is_finished(out):
                self.train(program, data, device, seed, out, threads, self.flags)
            flags = ["--every-checkpoint"] if course else []
            text = run([program, "eval", out, "--device", device, "--json", *flags], threads, out.with_suffix(".eval.log"))
            report = json.loads(text) | dict(batch_size=settings_of(out)["batch_size"])
            kept.write_text(json.dumps(report))
            figures = report["run"]["metrics"]
            print(f"{self.name}, seed {seed}: distance {figures['frechet']:.2f}, {time.perf_counter() - begin:.0f} s", file=sys.stderr)
        return report


def run(command, threads, log):
    """The standard output of a command; standard error goes to a file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as remarks:
        done = subprocess.run([str(word) for word in command], stdout=subprocess.PIPE, stderr=remarks, text=True,
                              env=os.environ | {"RAYON_NUM_THREADS": str(threads)})
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with code {done.returncode}: see {log}")
    return done.stdout


def without(flags, *names):
    """Flags without the named ones and their values."""
    return [flag for before, flag in zip([None, *flags], flags) if flag not in names and before not in names]


def fresh(out):
    """The same folder; a run in it that stopped before its first checkpoint is moved aside."""
    if out.exists():
        out.rename(out.with_name(f"{out.name}.{time.time_ns()}"))
    return out


def settings_of(out):
    return tomllib.loads((out / "config.toml").read_text())


def steps_of(out):
    return int((out / "losses.csv").read_text().splitlines()[-1].split(",")[0])


def is_finished(out):
    return (out / "losses.csv").exists() and steps_of(out) >= settings_of(out)["steps"]


def spread(values):
    """Mean and standard deviation."""
    mean = statistics.mean(values)
    return f"{mean:.2f}" if len(values) == 1 else f"{mean:.2f} ± {statistics.stdev(values):.2f}"


def table(reports):
    """A Markdown row per recipe: means over its seeds; for the distance also the spread and all values."""
    lines = ["| recipe | seeds | Fréchet distance | lowest, highest | score | precision | recall | density | coverage | classes |",
             "|---|---|---|---|---|---|---|---|---|---|"]
    for name, seeds in reports.items():
        figures = [report["run"]["metrics"] for report in seeds]
        distances = [figure["frechet"] for figure in figures]
        means = [statistics.mean(figure[key] for figure in figures if figure[key] is not None)
                 if figures[0][key] is not None else float("nan")
                 for key in ("score", "precision", "recall", "density", "coverage")]
        shares = [count / figure["images"] for figure in figures for count in figure["classes"] or []]
        classes = f"{100 * min(shares):.1f} to {100 * max(shares):.1f} %" if shares else ""
        lines.append(f"| {name} | {len(figures)} | {spread(distances)} | {min(distances):.2f}, {max(distances):.2f} | {means[0]:.2f} | "
                     + " | ".join(f"{mean:.3f}" for mean in means[1:]) + f" | {classes} |")
    return "\n".join(lines)


def courses(reports, rates):
    """For each recipe, the minutes of its checkpoints and the distances of all seeds at them. An interrupted run can have checkpoints
    that other runs lack."""
    result = {}
    for name, seeds in reports.items():
        moments = [{moment["step"]: moment["metrics"]["frechet"] for moment in report["checkpoints"]} for report in seeds]
        steps = sorted(set.intersection(*map(set, moments)))
        minutes = [step * seeds[0]["batch_size"] / rates[name] / 60 for step in steps]
        result[name] = minutes, [[moment[step] for moment in moments] for step in steps]
    return result


def plot(path, courses, floor):
    """Plots means over the seeds, in a band from the lowest to the highest."""
    from matplotlib import pyplot, rcParams
    from matplotlib.ticker import ScalarFormatter

    rcParams["svg.hashsalt"] = "gpu-gan"
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name, (minutes, distances) in courses.items():
        (line,) = axes.plot(minutes, [statistics.mean(values) for values in distances], marker="o", markersize=3,
                            label=f"{name}, {len(distances[0])} seeds")
        axes.fill_between(minutes, list(map(min, distances)), list(map(max, distances)), color=line.get_color(), alpha=0.25, linewidth=0)
    axes.axhline(floor, color="gray", linestyle="--", label="real images")
    axes.set(xlabel="minutes of training", ylabel="Fréchet distance", yscale="log", xlim=(0, None))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.grid(which="both", alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def seeds_of(text):
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", required=True, metavar="NAME: FLAGS", help="can be repeated")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--seeds", type=seeds_of, default=range(1), help="one seed, or a range such as 0-4")
    parser.add_argument("--out", type=Path, required=True, help="folder for all runs and reports")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=2, help="number of runs at the same time")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="number of threads of all runs together")
    parser.add_argument("--course", action="store_true", help="evaluate every checkpoint, and time an epoch")
    parser.add_argument("--plot", type=Path, help="plot the distances to this .svg or .png file")
    parser.add_argument("--program", type=Path, help="an existing gpu-gan binary")
    arguments = parser.parse_args()
    if arguments.plot and not arguments.course:
        parser.error("--plot draws courses, so it needs --course")
    if arguments.plot and not importlib.util.find_spec("matplotlib"):
        parser.error("--plot needs matplotlib: pip install matplotlib")
    recipes = [Recipe(text, arguments.out) for text in arguments.recipe]
    if len({recipe.folder for recipe in recipes}) < len(recipes):
        parser.error("two recipes have the same name")

    program = arguments.program
    if not program:
        subprocess.run(["cargo", "build", "--release"], cwd=ROOT, check=True)
        program = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target") / "release/gpu-gan"
    place = program, arguments.data, arguments.device
    rates = {recipe.name: recipe.images_per_second(*place, arguments.threads) for recipe in recipes} if arguments.course else {}

    threads = max(1, arguments.threads // arguments.jobs)
    with ThreadPoolExecutor(arguments.jobs) as pool:
        pairs = [(recipe, pool.submit(recipe.figures, *place, seed, threads, arguments.course))
                 for recipe in recipes for seed in arguments.seeds]
        reports = {}
        for recipe, report in pairs:
            reports.setdefault(recipe.name, []).append(report.result())

    print(table(reports))
    first = next(iter(reports.values()))[0]
    print(f"\nreal images: {first['real_images']['frechet']:.2f}; {first['run']['metrics']['images']} images of each seed")
    if arguments.course:
        drawn = courses(reports, rates)
        for name, (minutes, distances) in drawn.items():
            print(f"\n{name}, {rates[name]:.0f} images/s\n")
            print("| minutes | " + " | ".join(f"{minute:.1f}" for minute in minutes) + " |\n|" + "---|" * (len(minutes) + 1))
            print("| Fréchet distance | " + " | ".join(map(spread, distances)) + " |")
        if arguments.plot:
            plot(arguments.plot, drawn, first["real_images"]["frechet"])
            print(f"\n{arguments.plot}")


if __name__ == "__main__":
    main()
