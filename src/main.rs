//! The program: parses, runs, prints errors with their hints, and decides the exit code: 0 done, 1 failed, 2 wrong usage,
//! 130 stopped by Ctrl-C with everything saved.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use gpu_gan::cli::{Cli, Outcome};

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // wgpu's way to say that a device was lost while it was waited for: the GPU device makes an error of it.
        if panic.payload().downcast_ref::<String>().is_some_and(|text| text.starts_with("Error in Device::poll")) {
            return;
        }
        let _ = writeln!(io::stderr(), "error: gpu-gan made a mistake of its own: {panic}");
        let _ = writeln!(
            io::stderr(),
            "hint:  please report it, with the command and the lines above; checkpoints written before are whole"
        );
    }));
    calm_vulkan_layers();
    match Cli::parse().run() {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Stopped) => ExitCode::from(130),
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

/// Mesa's device selection layer asks the desktop which GPU it uses, and where there is no desktop, as in a container, prints
/// an error of its own. We choose by what adapters are, so the layer is not needed there.
fn calm_vulkan_layers() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: this is the program's only thread, so nobody reads the environment meanwhile.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
}
