//! Signals that end a command early: Ctrl-C, and what schedulers and closing terminals send.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use self::system::{listen, name_of};
use super::Outcome;
use crate::error::{Error, Result};
use crate::progress::Console;
use crate::train::StopRequest;

/// The number of SIGINT, which Ctrl-C sends.
const INTERRUPT: i32 = 2;
/// The number of SIGTERM, which schedulers send.
const TERMINATE: i32 = 15;

/// The signals that a command waits for from now on.
pub(super) struct StopSignals {
    /// What the signals ask for.
    pub(super) request: Arc<StopRequest>,
    /// The first signal that came.
    first: Arc<AtomicI32>,
}

impl StopSignals {
    /// Answers signals from now on: the first Ctrl-C asks the command to end and is answered with what is done now; the second one ends
    /// the program at once. SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 ask it to end within seconds. A signal that was ignored when the
    /// program began, as by `nohup`, stays ignored.
    ///
    /// # Errors
    ///
    /// Where the system does not let signals be handled.
    pub(super) fn answer(answer: &'static str, console: &Console) -> Result<Self> {
        let (request, first) = (Arc::new(StopRequest::default()), Arc::new(AtomicI32::new(0)));
        let signals = Self { request: Arc::clone(&request), first: Arc::clone(&first) };
        let console = console.clone();
        let mut interrupts = 0;
        listen(move |signal| {
            let is_first = first.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed).is_ok();
            if signal == INTERRUPT {
                interrupts += 1;
                if interrupts > 1 {
                    std::process::exit(128 + INTERRUPT);
                }
                request.make();
                console.message(&format!("\n{answer}; press Ctrl-C again to end at once"));
            } else {
                request.make_urgent();
                if is_first {
                    console.message(&format!("\n{answer}, as signal {signal} ({}) asks for it", name_of(signal)));
                }
            }
        })
        .map_err(|error| Error::Request {
            message: format!("Ctrl-C cannot be handled: {error}"),
            hint: "run the program from an ordinary terminal".into(),
        })?;
        Ok(signals)
    }

    /// How a command ended that was stopped.
    pub(super) fn outcome(&self) -> Outcome {
        let signal = match self.first.load(Ordering::Relaxed) {
            // Another rank was asked.
            0 if self.request.is_urgent() => TERMINATE,
            0 => INTERRUPT,
            signal => signal,
        };
        Outcome::Stopped { signal: signal as u8 }
    }
}

#[cfg(unix)]
mod system {
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::thread;

    use libc::{SIG_IGN, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, c_int, sigaction};
    use signal_hook::iterator::Signals;

    /// The signals that end a run.
    const SIGNALS: [c_int; 5] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2];

    /// Calls `receive` with each signal, on a thread of its own.
    pub(super) fn listen(mut receive: impl FnMut(i32) + Send + 'static) -> std::io::Result<()> {
        let mut signals = Signals::new(SIGNALS.into_iter().filter(|&signal| !is_ignored(signal)))?;
        thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(&mut receive))?;
        Ok(())
    }

    pub(super) fn name_of(signal: i32) -> &'static str {
        match signal {
            SIGTERM => "SIGTERM",
            SIGHUP => "SIGHUP",
            SIGUSR1 => "SIGUSR1",
            SIGUSR2 => "SIGUSR2",
            _ => "SIGINT",
        }
    }

    /// Whether the parent process wants a signal to be ignored.
    fn is_ignored(signal: c_int) -> bool {
        let mut action = MaybeUninit::<sigaction>::zeroed();
        // SAFETY: without a new action, the call changes nothing and writes the old one to `action`, which is valid for writes.
        let asked = unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) };
        // SAFETY: a `sigaction` is plain data of C, for which zeros are valid, and the call wrote nothing else to it.
        let action = unsafe { action.assume_init() };
        asked == 0 && action.sa_sigaction == SIG_IGN
    }
}

#[cfg(not(unix))]
mod system {
    /// Calls `receive` for each Ctrl-C.
    pub(super) fn listen(mut receive: impl FnMut(i32) + Send + 'static) -> Result<(), ctrlc::Error> {
        ctrlc::set_handler(move || receive(super::INTERRUPT))
    }

    pub(super) fn name_of(_: i32) -> &'static str {
        "Ctrl-C"
    }
}
