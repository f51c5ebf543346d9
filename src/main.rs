//! The program: parses the command line, runs the command, prints an error with its hint, and sets the exit code: 0 done, 1 failed,
//! 2 wrong usage, 130 stopped by Ctrl-C and 128 + N by signal N, with everything saved.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use gpu_gan::cli::{Cli, Outcome};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // wgpu panics with this message if a device is lost during a wait. The GPU device catches the panic and returns an error.
        if panic.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with("Error in Device::poll")) {
            return;
        }
        let _ = writeln!(io::stderr(), "error: internal error (this is a bug in gpu-gan): {panic}");
        let _ = writeln!(
            io::stderr(),
            "hint:  please report it with the command and the lines above; checkpoints that were written before are intact"
        );
    }));
    disable_device_selection_layer();
    match Cli::parse().run() {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Stopped { signal }) => ExitCode::from(128 + signal),
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            let hint = error.hint();
            if !hint.is_empty() {
                let _ = writeln!(io::stderr(), "hint:  {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Mesa's device selection layer asks the desktop for its GPU, and prints an error if there is no desktop, as in a container. The program
/// chooses adapters by their kind, so it does not need the layer.
fn disable_device_selection_layer() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: this is the program's only thread, so no other thread reads the environment at the same time.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
