//! Closed pipes (`gpu-gan ... | head`) and outputs that cannot be written.

use std::io;
use std::process::{ExitStatus, Stdio};

use crate::place::Place;

/// The writing end of a pipe whose reading end is closed.
fn closed() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[track_caller]
fn status(place: &Place, arguments: &str, stdout: Stdio, stderr: Stdio) -> ExitStatus {
    place.command(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr).status().unwrap()
}

#[test]
fn a_closed_standard_output_is_not_an_error() {
    let place = Place::with_run("--steps 1");
    for arguments in
        ["summary", "devices", "sample run --device cpu", "train shapes --model tiny.toml --device cpu --steps 1"]
    {
        assert_eq!(status(&place, arguments, closed(), Stdio::null()).code(), Some(0), "{arguments}");
    }
}

#[test]
fn training_continues_after_standard_error_is_closed() {
    let place = Place::with_run("--steps 1");
    for arguments in ["sample run --device cpu", "train shapes --model tiny.toml --device cpu --steps 3 --out unseen"] {
        let status = status(&place, arguments, Stdio::null(), closed());
        assert_eq!(status.code(), Some(0), "{arguments}: {status}");
    }
    assert!(place.has("unseen/checkpoints/step-00000003.safetensors"));
}

#[test]
fn an_error_with_closed_outputs_is_exit_code_1() {
    let place = Place::new();
    let status = status(&place, "train nothing --device cpu", Stdio::null(), closed());
    assert_eq!(status.code(), Some(1), "{status}");
}

#[cfg(target_os = "linux")]
#[test]
fn results_that_cannot_be_printed_are_an_error() {
    let place = Place::new();
    let full = || Stdio::from(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for arguments in ["summary tiny.toml", "devices"] {
        assert_eq!(status(&place, arguments, full(), Stdio::null()).code(), Some(1), "{arguments}");
    }
    place.shell("\"$0\" \"$@\" >/dev/full", "summary tiny.toml").refused().error("standard output").hint("space");
}
