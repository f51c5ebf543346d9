//! Bars and colours are shown on a terminal only, and no colour if `NO_COLOR` is set.

use std::process::Command;

use crate::place::{Place, skipped};

/// What a command writes to a terminal of its own, by util-linux's `script`.
fn on_a_terminal(place: &Place, arguments: &str, variables: &[(&str, &str)]) -> Option<String> {
    let program = place.command(arguments);
    let words: Vec<String> = [program.get_program()]
        .into_iter()
        .chain(program.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);
    script.current_dir(place.path("")).env("TERM", "xterm-256color");
    script.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    for name in
        ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "JPY_PARENT_PID", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"]
    {
        script.env_remove(name);
    }
    script.envs(variables.iter().copied());
    let Ok(output) = script.output() else {
        skipped("terminal", "there is no `script` of util-linux, so nothing is known of bars and colours");
        return None;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The escape sequence of a foreground colour or another attribute that is not reset.
fn has_colour(text: &str) -> bool {
    ["\x1b[36m", "\x1b[1m", "\x1b[4m", "\x1b[2m"].iter().any(|code| text.contains(code))
}

#[test]
fn a_bar_with_colours_is_shown_on_a_terminal_only() {
    let place = Place::new();
    let train = "train shapes --model tiny.toml --device cpu --steps 20 --eval-every never --out";
    let Some(shown) = on_a_terminal(&place, &format!("{train} bar"), &[]) else { return };
    assert!(shown.contains('━') && has_colour(&shown), "{shown}");
    let plain = on_a_terminal(&place, &format!("{train} plain"), &[("NO_COLOR", "1")]).unwrap();
    assert!(plain.contains('━') && !has_colour(&plain), "{plain}");
    let notebook = on_a_terminal(&place, &format!("{train} notebook"), &[("JPY_PARENT_PID", "1")]).unwrap();
    assert!(!notebook.contains('━') && !notebook.contains('\x1b') && notebook.contains("step 20/20"), "{notebook}");
    let piped = place.gpu_gan(&format!("{train} piped")).succeeds().stderr();
    assert!(!piped.contains('━') && !piped.contains('\x1b') && piped.contains("step 20/20"), "{piped}");
}

#[test]
fn help_has_colours_on_a_terminal_only() {
    let place = Place::empty();
    let Some(shown) = on_a_terminal(&place, "--help", &[]) else { return };
    assert!(has_colour(&shown), "{shown}");
    assert!(!has_colour(&on_a_terminal(&place, "--help", &[("NO_COLOR", "1")]).unwrap()));
    assert!(!place.gpu_gan("--help").succeeds().stdout().contains('\x1b'));
}
