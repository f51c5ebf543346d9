//! Checks a GPU and its driver from a program or a test: runs the cases of two operations, and shrinks those that fail.
//!
//!     cargo run --release --example verify

use gpu_gan::gpu::{self, GpuDevice};
use gpu_gan::progress::Console;
use gpu_gan::verify::{Replay, VerifyOptions, verify};

fn main() -> gpu_gan::Result<()> {
    let adapters = gpu::adapters();
    let Some(adapter) = adapters.first() else {
        println!("no GPU: {}", gpu::what_to_install());
        return Ok(());
    };
    let device = GpuDevice::open(adapter)?;

    // Without a filter, the quick scope takes about a minute on a software adapter.
    let failures = std::env::temp_dir().join(format!("gpu-gan-failures-{}", std::process::id()));
    let mut options = VerifyOptions::default();
    options.filter = Some("^(upsample|concat)/".parse().expect("a regular expression"));
    options.dump = Some(failures.clone());
    let report = verify(&device, &options, &Console::silent())?;
    println!("{report}");
    if !report.passed {
        println!("{}", Replay::read(&failures, None)?.run(&device, None, &Console::silent())?);
        println!("the failing cases are in {}", failures.display());
        std::process::exit(1);
    }
    Ok(())
}
