//! The help texts, the reference of all options, completions and manual pages, and wrong command lines.
//!
//! The help texts are compared with `tests/cli/help/`, the reference with `docs/cli.md`. After a change of an option, run
//! `GPU_GAN_UPDATE_HELP=1 cargo test --release --test cli help`, and look at the differences.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};
use gpu_gan::cli::Cli;

use crate::place::Place;

/// Set to 1 to rewrite the files instead of comparing them.
const UPDATE: &str = "GPU_GAN_UPDATE_HELP";

/// The width of the help texts, in columns.
const WIDTH: usize = 100;

/// The command line, with the global options in every subcommand.
fn command() -> Command {
    let mut command = Cli::command().term_width(WIDTH);
    command.build();
    command
}

/// The subcommands that do something.
fn subcommands(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|subcommand| subcommand.get_name() != "help")
}

/// Compares a file of the repository with the text that it should have, or writes it.
#[track_caller]
fn check_file(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var(UPDATE).is_ok_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        return fs::write(path, text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    if let Some((number, (written, text))) = (1..).zip(written.lines().zip(text.lines())).find(|(_, (a, b))| a != b) {
        panic!(
            "{name}, line {number}, differs; look at it, and set {UPDATE}=1 to write it\n  is:  {written}\n  now: {text}"
        );
    }
    assert!(written == text, "{name} is shorter or longer than the text now; set {UPDATE}=1 to write it");
}

/// A help text without the spaces that clap leaves at the ends of lines.
fn lines_of(help: &str) -> String {
    help.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

#[test]
fn every_help_text_is_as_it_was_reviewed() {
    let mut command = command();
    let short = lines_of(&command.render_help().to_string());
    let long = lines_of(&command.render_long_help().to_string());
    check_file("tests/cli/help/gpu-gan.txt", &short);
    check_file("tests/cli/help/gpu-gan.long.txt", &long);
    // The binary prints these texts.
    let place = Place::empty();
    for (arguments, text) in [("-h", &short), ("--help", &long), ("help", &long)] {
        let said = place.gpu_gan(arguments).env("COLUMNS", &WIDTH.to_string()).succeeds().stdout();
        assert_eq!(lines_of(&said).replace("gpu-gan.exe", "gpu-gan"), *text);
    }
    for subcommand in command.get_subcommands_mut().filter(|subcommand| subcommand.get_name() != "help") {
        let name = subcommand.get_name().to_string();
        check_file(&format!("tests/cli/help/{name}.txt"), &lines_of(&subcommand.render_help().to_string()));
        check_file(&format!("tests/cli/help/{name}.long.txt"), &lines_of(&subcommand.render_long_help().to_string()));
    }
    let files = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/help")).unwrap().count();
    assert_eq!(files, 2 * (1 + subcommands(&command).count()), "a help text belongs to no command");
}

#[test]
fn the_short_help_has_one_line_for_each_option_and_fits_on_a_screen() {
    let mut command = command();
    for subcommand in command.get_subcommands_mut() {
        let name = subcommand.get_name().to_string();
        let help = subcommand.render_help().to_string();
        assert!(help.lines().count() <= 45, "gpu-gan {name} -h has {} lines", help.lines().count());
        let is_continued = |line: &&str| line.starts_with("          ") && !line.trim().is_empty();
        let continued: Vec<&str> = help.lines().filter(is_continued).collect();
        assert_eq!(continued, [""; 0], "gpu-gan {name} -h");
    }
}

#[test]
fn the_reference_has_every_option() {
    let command = command();
    let mut text = String::from(
        "# Command line reference\n\n\
         Generated from the definitions of the options; see `tests/cli/help.rs`. `gpu-gan COMMAND -h` prints the common options of a \
         command, `gpu-gan COMMAND --help` all of them.\n\n\
         | command | what it does |\n|---|---|\n",
    );
    for subcommand in subcommands(&command) {
        let name = subcommand.get_name();
        let about = subcommand.get_about().unwrap_or_default();
        writeln!(text, "| [`gpu-gan {name}`](#gpu-gan-{name}) | {about} |").unwrap();
    }
    text += "\n## Options of every command\n\n";
    command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .for_each(|argument| describe(&mut text, argument));
    text += "\n## Exit codes\n\n\
             | code | meaning |\n|---|---|\n\
             | 0 | done |\n| 1 | failed; the error and a hint are on standard error |\n\
             | 2 | wrong usage: an unknown option, or a value that it cannot have |\n\
             | 130 | stopped by Ctrl-C; the work so far is saved |\n\
             | 128 + N | stopped by signal N, such as 143 by SIGTERM; the work so far is saved |\n";
    for subcommand in subcommands(&command) {
        section(&mut text, subcommand.clone());
    }
    check_file("docs/cli.md", &text);
}

/// A section of the reference about a command.
fn section(text: &mut String, mut command: Command) {
    let about = command.get_long_about().or(command.get_about()).unwrap_or_default().to_string();
    let usage = command.render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ");
    write!(text, "\n## gpu-gan {}\n\n{about}\n\n```text\n{usage}\n```\n", command.get_name()).unwrap();
    let heading = |argument: &Arg| {
        let usual = if argument.is_positional() { "Arguments" } else { "Options" };
        argument.get_help_heading().unwrap_or(usual).to_string()
    };
    let is_own = |argument: &&Arg| {
        let is_automatic = matches!(argument.get_id().as_str(), "help" | "version");
        !argument.is_global_set() && !argument.is_hide_set() && !is_automatic
    };
    let arguments: Vec<&Arg> = command.get_arguments().filter(is_own).collect();
    let mut headings: Vec<String> = Vec::new();
    for argument in &arguments {
        if !headings.contains(&heading(argument)) {
            headings.push(heading(argument));
        }
    }
    for title in headings {
        write!(text, "\n### {title}\n\n").unwrap();
        arguments.iter().filter(|argument| heading(argument) == title).for_each(|argument| describe(text, argument));
    }
}

/// An option of the reference.
fn describe(text: &mut String, argument: &Arg) {
    let short = argument.get_short().map_or_else(String::new, |short| format!("-{short}, "));
    let help = argument.get_long_help().or(argument.get_help()).unwrap_or_default().to_string();
    let mut paragraphs = help.split("\n\n");
    write!(text, "- `{short}{argument}`: {}", paragraphs.next().unwrap_or_default()).unwrap();
    if !argument.is_positional() && argument.get_num_args().is_none_or(|values| values.takes_values()) {
        let defaults = argument.get_default_values().iter().map(|value| value.to_string_lossy());
        let defaults: Vec<_> = defaults.collect();
        if !defaults.is_empty() {
            write!(text, " [default: {}]", defaults.join(" ")).unwrap();
        }
        let values: Vec<String> = argument
            .get_possible_values()
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if !values.is_empty() {
            write!(text, " [possible values: {}]", values.join(", ")).unwrap();
        }
        if let Some(variable) = argument.get_env() {
            write!(text, " [environment variable: `{}`]", variable.to_string_lossy()).unwrap();
        }
    }
    text.push('\n');
    paragraphs.for_each(|paragraph| write!(text, "\n  {}\n", paragraph.replace('\n', "\n  ")).unwrap());
}

#[test]
fn every_shell_gets_a_script_that_knows_the_options() {
    let place = Place::empty();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        place.gpu_gan(&format!("completions {shell}")).succeeds().prints("gpu-gan").prints("resume");
    }
    place.gpu_gan("completions csh").misused();
    place.gpu_gan("completions").misused();
}

#[test]
fn every_command_has_a_manual_page() {
    let place = Place::empty();
    place.gpu_gan("man pages/man1").succeeds().prints("pages/man1");
    for subcommand in subcommands(&command()) {
        let page = place.text(&format!("pages/man1/gpu-gan-{}.1", subcommand.get_name()));
        assert!(page.contains(".TH") && page.contains("OPTIONS"), "{page}");
    }
    assert!(place.text("pages/man1/gpu-gan.1").contains(".TH"));
    place.write("notes", b"hello");
    place.gpu_gan("man notes").refused().error("notes");
}

#[test]
fn the_version_is_that_of_the_package() {
    let said = Place::empty().gpu_gan("--version").succeeds();
    assert_eq!(said.stdout(), format!("gpu-gan {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let place = Place::with_run("--steps 1");
    for nonsense in [
        "",
        "paint",
        "--paint",
        "train",
        "train shapes --paint",
        "train shapes more-shapes",
        "train shapes --lr",
        "train shapes --lr fast",
        "train shapes --steps 1.5",
        "train shapes --steps 1 --epochs 1",
        "train shapes --sample-every 5parsecs",
        "train shapes --checkpoint-every 0steps",
        "train shapes --keep-checkpoints 0",
        "train shapes --quiet --verbose",
        "sample",
        "sample run --count many",
        "sample run --count 1 --seeds 1",
        "interpolate run",
        "interpolate run --seeds 1,2 --frames many",
        "eval",
        "eval run --count many",
        "summary --steps 1",
        "summary --classes 1",
        "devices cpu",
        "man",
    ] {
        place.gpu_gan(nonsense).misused();
    }
}
