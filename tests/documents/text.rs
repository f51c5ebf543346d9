//! Phrases that a newcomer would have to decode, and names that were replaced by the field's terms.

use std::path::{Path, PathBuf};

/// Phrases, in small letters, with what to write instead. A phrase is found across line ends and comment marks.
const PHRASES: &[(&str, &str)] = &[
    ("so many", "name the number: N, `<PIXELS>`"),
    ("made anew", "\"rebuilt\", \"rebuilding\""),
    ("opened anew", "\"reopened\""),
    ("is there already", "\"already exists\""),
    ("are there already", "\"already exist\""),
    ("for the second time", "\"again\", or the count"),
    ("a mistake of its own", "\"internal error\""),
    ("a run that goes on", "\"resuming\""),
    ("makes always", "\"always makes\""),
    ("all of it on one page", "name what is on it"),
    ("be it", "name both cases"),
    ("moving average of the generator", "\"EMA of the generator\""),
    ("usual tiles", "\"default tile shape\""),
    ("average-half-life", "`ema-half-life`"),
    ("least-steps", "`min-steps`"),
    ("--flip=false", "`--no-flip`"),
    ("--quarter-turns=false", "`--no-quarter-turns`"),
    ("told the class", "\"conditional\", \"class-conditional\""),
    ("busy machine", "measure again, or leave it out"),
    ("busy cores", "measure again, or leave it out"),
    ("beside other work", "measure again, or leave it out"),
    ("programs were busy", "measure again, or leave it out"),
    ("quiet machine", "measure again, or leave it out"),
    ("as busy as", "measure again, or leave it out"),
    ("windows of the data", "\"chunks of the data set\""),
    ("undisturbed", "\"without augmentation\""),
    ("by chance", "\"randomly\""),
    ("what is there", "name what exists"),
    ("photograph", "\"image\""),
    ("real pictures", "\"real images\""),
    ("{height} x {width}", "width x height"),
    ("{h} x {w}", "width x height"),
];

/// Names of the code that have a better one, as whole words.
const NAMES: &[(&str, &str)] = &[
    ("Judge", "FeatureExtractor"),
    ("Judged", "say what was measured"),
    ("Lens", "FeatureExtractor"),
    ("Examiner", "an evaluator"),
    ("Trainee", "say what is trained"),
    ("Portfolio", "RunReport"),
    ("Obedience", "conditional scores"),
    ("Wish", "a sample request"),
    ("Rhythm", "a schedule or an interval"),
    ("MovingAverage", "Ema"),
    ("moving_average", "ema"),
    ("hand_on", "write_epilogue"),
];

/// Files that have to name what it was called before: the file, and the phrase.
const OLD_NAMES: &[(&str, &str)] =
    &[("src/train/checkpoint/format_2.rs", "average-half-life"), ("src/train/checkpoint/format_2.rs", "least-steps")];

/// The texts of the named files and folders below `root`: their paths, and what is in them.
pub(crate) fn texts_below(root: &Path, names: &[&str]) -> Vec<(String, String)> {
    let mut open: Vec<PathBuf> = names.iter().map(|name| root.join(name)).collect();
    let mut texts = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path
            .extension()
            .is_some_and(|ending| ["rs", "wgsl", "md", "toml", "html"].iter().any(|e| ending == *e))
        {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            texts.push((name, std::fs::read_to_string(&path).unwrap()));
        }
    }
    texts.sort();
    texts
}

/// Each banned phrase in a text, as a line for people.
pub(crate) fn banned_phrases_in(file: &str, text: &str) -> Vec<String> {
    let (flowing, lines) = flowing(text);
    let lower = flowing.to_ascii_lowercase();
    let mut found = Vec::new();
    for (text, words) in [(&lower, PHRASES), (&flowing, NAMES)] {
        for &(phrase, instead) in words {
            if OLD_NAMES.contains(&(file, phrase)) {
                continue;
            }
            for (at, _) in text.match_indices(phrase).filter(|&(at, _)| is_whole(text, at, phrase)) {
                found.push(format!("{file}:{}: \"{phrase}\"; write {instead}", lines[at]));
            }
        }
    }
    found
}

/// Whether a phrase begins at the beginning of a word, and a name ends at the end of one.
fn is_whole(text: &str, at: usize, phrase: &str) -> bool {
    let is_letter = |letter: char| letter.is_alphanumeric() || letter == '_';
    let is_name = !phrase.contains(' ') && phrase.contains(|letter: char| letter.is_uppercase() || letter == '_');
    let before = text[..at].chars().next_back();
    let after = text[at + phrase.len()..].chars().next();
    let is_part = before.is_some_and(is_letter) || is_name && after.is_some_and(is_letter);
    !is_part
}

/// A text as one line, without comment marks, and the number of the line that each of its bytes comes from.
fn flowing(text: &str) -> (String, Vec<usize>) {
    let (mut flowing, mut lines) = (String::new(), Vec::new());
    for (number, line) in text.lines().enumerate() {
        let line = line.trim().trim_start_matches(['/', '!', '#', '>']).trim_start();
        // A string of Rust that goes on in the next line ends in a backslash.
        let line = line.strip_suffix('\\').unwrap_or(line).trim_end();
        flowing.push_str(line);
        flowing.push(' ');
        lines.resize(flowing.len(), number + 1);
    }
    (flowing, lines)
}

#[test]
fn a_phrase_is_found_across_lines_and_comment_marks() {
    let text = "x\n    /// Cut it into so\n    /// many parts.\n\"in so \\\n  many\"";
    let found = banned_phrases_in("a.rs", text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("a.rs:2: \"so many\""), "{found:?}");
}

#[test]
fn a_name_is_found_as_a_whole_word() {
    assert_eq!(banned_phrases_in("a.rs", "Lens, Lenses, aLens, also manyfold").len(), 1);
}
