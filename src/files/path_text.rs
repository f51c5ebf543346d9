//! Paths as text: in files, in messages, and in commands that a person pastes into a shell.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use crate::error::nearest;

/// A path as text, from which [`path_of`] makes the same path again. In a path that is not UTF-8, each byte that is no part of a character
/// is written as `\xff`, and a backslash as `\x5c`.
pub fn text_of(path: &Path) -> String {
    use std::fmt::Write;
    if let Some(text) = path.to_str() {
        return text.into();
    }
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\x5c"));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// The path that a text names. If that path does not exist, `\xff` may stand for a byte that is not UTF-8, and a name with accents may
/// have the other Unicode form: macOS stores names decomposed, other systems store them as they were typed.
pub fn path_of(text: &str) -> PathBuf {
    let path = PathBuf::from(text);
    if fs::symlink_metadata(&path).is_ok() {
        return path;
    }
    let exists = |path: &PathBuf| fs::symlink_metadata(path).is_ok();
    unescaped(text).filter(exists).or_else(|| in_another_form(&path)).unwrap_or(path)
}

/// The path with each `\xff` replaced by its byte. `None` if the text has no such escape.
#[cfg(unix)]
fn unescaped(text: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let mut parts = text.split("\\x");
    let mut bytes = parts.next()?.as_bytes().to_vec();
    let before = bytes.len();
    for part in parts {
        // Without a look at the digits, `+f` would be a number, too.
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        if let Some((Ok(byte), rest)) = digits.map(|digits| (u8::from_str_radix(digits, 16), &part[2..])) {
            bytes.push(byte);
            bytes.extend(rest.as_bytes());
        } else {
            bytes.extend(b"\\x");
            bytes.extend(part.as_bytes());
        }
    }
    (bytes.len() > before).then(|| std::ffi::OsString::from_vec(bytes).into())
}

#[cfg(not(unix))]
fn unescaped(_: &str) -> Option<PathBuf> {
    None // Only unix has names of any bytes.
}

/// An existing path whose parts are equal to those of `path` in the composed Unicode form (NFC).
fn in_another_form(path: &Path) -> Option<PathBuf> {
    let composed = |name: &OsStr| name.to_string_lossy().nfc().collect::<String>();
    let mut found = PathBuf::new();
    for part in path.components() {
        let next = found.join(part);
        if fs::symlink_metadata(&next).is_ok() {
            found = next;
            continue;
        }
        let wanted = composed(part.as_os_str());
        if wanted.is_ascii() {
            return None; // it has one form
        }
        let folder = if found == Path::new("") { Path::new(".") } else { &found };
        let mut names = fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.file_name()));
        found.push(names.find(|name| composed(name) == wanted)?);
    }
    Some(found)
}

/// A path that can be pasted into a shell as an argument that is not an option: in quotes if it has characters other than letters,
/// digits and `._-/+=:,@`. Names that are not UTF-8 become `$'...'`, which bash, zsh and POSIX.1-2024 read.
pub fn shell_quoted(path: &Path) -> String {
    if path.as_os_str().as_encoded_bytes().first() == Some(&b'-') {
        return shell_quoted(&Path::new(".").join(path));
    }
    let Some(text) = path.to_str() else { return escaped(path) };
    shell_quoted_text(text)
}

/// A text as it can be pasted into a shell as one argument.
pub fn shell_quoted_text(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._-/+=:,@".contains(c) || (cfg!(windows) && c == '\\');
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into();
    }
    if cfg!(windows) { format!("\"{text}\"") } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

/// A path with its bytes as a shell reads them, `$'caf\351'`.
fn escaped(path: &Path) -> String {
    let bytes = path.as_os_str().as_encoded_bytes().iter();
    let escape = |&byte: &u8| match byte {
        b'\'' | b'\\' => format!("\\{}", byte as char),
        b' '..=b'~' => (byte as char).to_string(),
        // Octal has a fixed length, so that a digit behind it stays a digit.
        _ => format!("\\{byte:03o}"),
    };
    format!("$'{}'", bytes.map(escape).collect::<String>())
}

/// `did you mean PATH? `, where PATH is the most similar name in the folder of a misspelt path. Empty if no name is similar.
pub fn meant_instead(path: &Path) -> String {
    // The largest number of names to compare, so that a huge folder takes no time.
    const MAX_NAMES: usize = 10_000;
    let folder = folder_of(path);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_NAMES);
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match nearest(name, names.iter().map(String::as_str).filter(|name| !name.starts_with('.'))) {
        Some(name) => format!("did you mean {}? ", shell_quoted(&path.with_file_name(name))),
        None => String::new(),
    }
}

/// The folder that a path lies in; the current folder for a bare name.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn paths_can_be_pasted_into_a_shell() {
        let weird = ["runs/a-0001", "my run", "it's", "$HOME", "a;b", "é", "", "a\nb", "*"];
        for path in weird {
            let quoted = shell_quoted(Path::new(path));
            let echo = std::process::Command::new("sh").args(["-c", &format!("printf %s {quoted}")]).output().unwrap();
            assert_eq!(String::from_utf8(echo.stdout).unwrap(), path, "{quoted}");
        }
        assert_eq!(shell_quoted(Path::new("runs/a-0001")), "runs/a-0001");
        assert_eq!(shell_quoted(Path::new("-rf")), "./-rf");
    }

    #[cfg(unix)]
    #[test]
    fn paths_that_are_not_utf_8_keep_their_bytes_in_a_shell() {
        use std::os::unix::ffi::OsStrExt;
        let bytes = b"caf\xe91 it's \\ \n";
        let quoted = shell_quoted(Path::new(std::ffi::OsStr::from_bytes(bytes)));
        assert_eq!(quoted, r"$'caf\3511 it\'s \\ \012'");
        // Not every `sh` reads it yet.
        if let Ok(echo) = std::process::Command::new("bash").args(["-c", &format!("printf %s {quoted}")]).output() {
            assert_eq!(echo.stdout, bytes);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_path_of_any_bytes_is_a_text_and_a_text_finds_names_in_either_unicode_form() {
        use std::os::unix::ffi::OsStrExt;
        let place = tempfile::tempdir().unwrap();
        let odd = place.path().join(OsStr::from_bytes(b"caf\xe9 \\x41")).join("a");
        fs::create_dir_all(&odd).unwrap();
        let text = text_of(&odd);
        assert!(text.ends_with("caf\\xe9 \\x5cx41/a"), "{text}");
        assert_eq!(path_of(&text), odd, "an escape in the name itself stays one");
        let plain = place.path().join(OsStr::from_bytes(b"caf\xe9"));
        fs::create_dir(&plain).unwrap();
        assert_eq!(path_of(&text_of(&plain)), plain);
        let literal = place.path().join("a\\x41");
        fs::create_dir(&literal).unwrap();
        assert_eq!(path_of(&text_of(&literal)), literal, "an exact name comes first");

        let decomposed = place.path().join("e\u{301}te\u{301}/x");
        fs::create_dir_all(&decomposed).unwrap();
        assert_eq!(path_of(place.path().join("\u{e9}t\u{e9}/x").to_str().unwrap()), decomposed);
        let missing = place.path().join("\u{e9}t\u{e9}/y");
        assert_eq!(path_of(missing.to_str().unwrap()), missing);
        assert_eq!(path_of("no \\xzz \\x \\x+f"), Path::new("no \\xzz \\x \\x+f"));
    }

    #[test]
    fn a_bare_file_name_belongs_to_the_current_folder() {
        assert_eq!(folder_of(Path::new("notes.txt")), Path::new("."));
        assert_eq!(folder_of(Path::new("runs/notes.txt")), Path::new("runs"));
        assert_eq!(folder_of(Path::new("/notes.txt")), Path::new("/"));
    }
}
