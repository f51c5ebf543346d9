//! The documents: links have targets, commands are accepted by the program, and the wording follows the rules.

#[path = "documents/text.rs"]
mod text;

use std::path::Path;

use clap::Parser;
use clap::error::ErrorKind;
use gpu_gan::cli::Cli;
use text::{banned_phrases_in, texts_below};

/// Documents for people who use or change the program.
const DOCUMENTS: [&str; 4] = ["README.md", "CONTRIBUTING.md", "docs", "data/README.md"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The targets of the Markdown links and images of a text.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target)
}

/// The commands of a text: lines of its code blocks and code spans that begin with `gpu-gan`, comments left out. A span may be the
/// name of a command, without the arguments that it needs.
fn commands(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.trim().trim_start_matches("$ "));
    let spans = text.split('`').skip(1).step_by(2);
    let whole = |command: &str| {
        command.replace('"', "").split('#').next().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    lines.chain(spans).filter(|line| line.starts_with("gpu-gan ") && !line.contains('`')).map(whole).collect()
}

#[test]
fn relative_links_lead_to_files() {
    let mut broken = Vec::new();
    for (file, text) in texts_below(root(), &DOCUMENTS) {
        let folder = root().join(&file).parent().expect("a folder").to_owned();
        for link in links(&text).filter(|link| !link.contains("://") && !link.starts_with('#')) {
            let path = link.split('#').next().expect("a first part");
            if !folder.join(path).exists() {
                broken.push(format!("{file}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn commands_in_documents_are_accepted() {
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for (file, text) in texts_below(root(), &DOCUMENTS) {
        // This document is generated, with placeholders.
        if file == "docs/cli.md" {
            continue;
        }
        for command in commands(&text) {
            let words: Vec<&str> = command.split_whitespace().collect();
            // Placeholders such as `gpu-gan export RUN OUT` and ellipses cannot be run.
            if words.contains(&"...") {
                continue;
            }
            tried += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                let said = error.to_string();
                let is_name =
                    error.kind() == ErrorKind::MissingRequiredArgument && text.contains(&format!("`{command}`"));
                // clap reports `--help` and `--version` as errors.
                if error.use_stderr() && !is_name {
                    wrong.push(format!("{file}: {command}\n    {}", said.lines().next().unwrap_or_default()));
                }
            }
        }
    }
    assert!(tried > 20, "only {tried} commands were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_wrong_command_and_a_broken_link_are_seen() {
    let text =
        "Type `gpu-gan train mnist --no-such-flag`, see [there](none.md).\n\n```\n$ gpu-gan models    # a list\n```\n";
    assert_eq!(commands(text), ["gpu-gan models", "gpu-gan train mnist --no-such-flag"]);
    assert!(Cli::try_parse_from(commands(text)[1].split_whitespace()).is_err());
    assert_eq!(links(text).collect::<Vec<_>>(), ["none.md"]);
}

#[test]
fn texts_use_the_usual_words() {
    let files = ["src", "shaders", "docs", "data", "examples", "README.md", "CONTRIBUTING.md"];
    let texts = texts_below(root(), &files);
    let found: Vec<String> = texts.iter().flat_map(|(file, text)| banned_phrases_in(file, text)).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}
