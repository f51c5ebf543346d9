//! Output on standard error: messages, and the progress of long tasks.
//!
//! On a terminal a task has a progress bar. Otherwise (a pipe, a file, a notebook) it prints plain lines at intervals. Functions of
//! this file return no errors: if standard error is closed (`2>&1 | head`), the work continues without output.
//!
//! A build without the feature `cli` has no progress bars: it prints plain lines on a terminal, too.

#[cfg(feature = "cli")]
mod bars;
#[cfg(not(feature = "cli"))]
#[path = "progress/bars_disabled.rs"]
mod bars;

use std::env;
use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bars::{Bar, BarLayout, Bars};

/// The longest time between two plain lines of a task.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The smallest number of plain lines of a task with details, even if it is fast.
const LINES_PER_TASK: u64 = 10;

/// Environment variables that Jupyter, Colab and Kaggle set for the programs that a notebook starts. Their output cannot move the
/// cursor, so a bar would print a line for each update.
const NOTEBOOK_VARIABLES: [&str; 3] = ["JPY_PARENT_PID", "COLAB_RELEASE_TAG", "KAGGLE_KERNEL_RUN_TYPE"];

/// The amount of messages besides a command's result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verbosity {
    /// Warnings and errors only.
    Quiet,
    /// Warnings, errors, messages and progress.
    #[default]
    Normal,
    /// All messages, including details such as the duration of each task.
    Verbose,
}

/// A destination for messages and progress. Clones share it.
#[derive(Clone)]
pub struct Console {
    /// The amount of messages.
    verbosity: Verbosity,
    /// The destination of the messages.
    sink: Sink,
}

/// The destination of messages.
#[derive(Clone)]
enum Sink {
    /// Messages are dropped.
    Nowhere,
    /// A terminal with progress bars.
    Terminal(Bars),
    /// A writer of plain lines.
    Plain(Arc<Mutex<dyn Write + Send>>),
}

impl Console {
    /// A console on standard error, with bars on a terminal, else with plain lines.
    pub fn stderr(verbosity: Verbosity) -> Self {
        let in_notebook = NOTEBOOK_VARIABLES.iter().any(|name| env::var_os(name).is_some());
        match Bars::on_stderr().filter(|_| !in_notebook) {
            Some(bars) => Self { verbosity, sink: Sink::Terminal(bars) },
            None => Self::plain(io::stderr(), verbosity),
        }
    }

    /// A console that writes plain lines to any writer.
    pub fn plain(out: impl Write + Send + 'static, verbosity: Verbosity) -> Self {
        Self { verbosity, sink: Sink::Plain(Arc::new(Mutex::new(out))) }
    }

    /// A console that drops every message, for library users and background work.
    pub fn silent() -> Self {
        Self { verbosity: Verbosity::Quiet, sink: Sink::Nowhere }
    }

    /// Prints a line above all bars, unless the verbosity is [`Verbosity::Quiet`].
    pub fn message(&self, text: &str) {
        self.print_from(Verbosity::Normal, text);
    }

    /// Prints a warning at any verbosity: `warning: TEXT`.
    pub fn warning(&self, text: &str) {
        self.print_from(Verbosity::Quiet, &format!("warning: {text}"));
    }

    /// Prints a line only with [`Verbosity::Verbose`].
    pub fn detail(&self, text: &str) {
        self.print_from(Verbosity::Verbose, text);
    }

    fn print_from(&self, least: Verbosity, text: &str) {
        if self.verbosity < least {
            return;
        }
        match &self.sink {
            Sink::Nowhere => {}
            Sink::Terminal(bars) => bars.print(text),
            Sink::Plain(out) => print_line(out, text),
        }
    }

    /// Shows a task of `total` equal pieces, with a name, a bar and the remaining time.
    pub fn task(&self, name: &str, total: u64) -> Task {
        self.begin(name, total, 0, BarLayout::OneLine)
    }

    /// Shows a task that reports its numbers by [`Task::describe`]. `first` of the `total` pieces were done before. The bar stays when
    /// the task ends.
    pub fn task_with_details(&self, name: &str, first: u64, total: u64) -> Task {
        self.begin(name, total, first, BarLayout::WithDetails)
    }

    fn begin(&self, name: &str, total: u64, first: u64, layout: BarLayout) -> Task {
        let view = match &self.sink {
            _ if self.verbosity == Verbosity::Quiet => View::Hidden,
            Sink::Nowhere => View::Hidden,
            Sink::Terminal(bars) => View::Bar(bars.begin(name, total, first, layout)),
            Sink::Plain(out) => {
                let state = LineState { printed_at: Instant::now(), printed_piece: first, unprinted: None };
                View::Lines { out: Arc::clone(out), state: Mutex::new(state), interval: LINE_INTERVAL }
            }
        };
        let (name, done, began) = (name.to_string(), AtomicU64::new(first), Instant::now());
        Task { console: self.clone(), name, first, total, done, began, view }
    }
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("verbosity", &self.verbosity).finish_non_exhaustive()
    }
}

/// A running task of known size. Threads may share it.
pub struct Task {
    /// The console that shows the task.
    console: Console,
    /// The name of the task.
    name: String,
    /// The number of pieces that were done before the task began.
    first: u64,
    /// The number of all pieces.
    total: u64,
    /// The number of finished pieces.
    done: AtomicU64,
    /// The time at which the task began.
    began: Instant,
    /// The display of the task.
    view: View,
}

/// The display of a task.
enum View {
    /// No display.
    Hidden,
    /// A progress bar on a terminal.
    Bar(Bar),
    /// Plain lines at intervals.
    Lines {
        /// The destination of the lines.
        out: Arc<Mutex<dyn Write + Send>>,
        /// The state of the last printed line.
        state: Mutex<LineState>,
        /// The time between two lines.
        interval: Duration,
    },
}

/// The state of a task that prints plain lines.
struct LineState {
    /// The time of the last printed line.
    printed_at: Instant,
    /// The number of finished pieces at the last printed line.
    printed_piece: u64,
    /// The newest details that were not printed.
    unprinted: Option<String>,
}

impl Task {
    /// A task without output.
    pub fn hidden() -> Self {
        Console::silent().task("", 0)
    }

    /// Adds finished pieces.
    pub fn advance(&self, pieces: u64) {
        let done = (self.done.fetch_add(pieces, Ordering::Relaxed) + pieces).min(self.total);
        match &self.view {
            View::Hidden => {}
            View::Bar(bar) => bar.set_done(done),
            View::Lines { out, state, interval } => {
                let mut state = lock(state);
                if state.printed_at.elapsed() >= *interval {
                    let percent = 100 * done / self.total.max(1);
                    print_line(out, &format!("{}  {percent} %", self.name));
                    state.printed_at = Instant::now();
                }
            }
        }
    }

    /// Replaces the task's name in the bar, for example by the name of the current piece.
    pub fn rename(&self, name: &str) {
        if let View::Bar(bar) = &self.view {
            bar.set_name(name);
        }
    }

    /// Sets the number of finished pieces to `done`, and shows the task's details, and its speed and remaining time.
    pub fn describe(&self, done: u64, details: &str, speed: &str) {
        self.done.store(done, Ordering::Relaxed);
        match &self.view {
            View::Hidden => {}
            View::Bar(bar) => {
                bar.set_details(details);
                bar.set_name(speed);
                bar.set_done(done);
            }
            View::Lines { out, state, interval } => {
                let mut state = lock(state);
                let line = format!("{details}  {speed}");
                let pieces_per_line = (self.total.saturating_sub(self.first) / LINES_PER_TASK).max(1);
                let is_due = done.saturating_sub(state.printed_piece) >= pieces_per_line;
                if is_due || state.printed_at.elapsed() >= *interval {
                    print_line(out, line.trim_end());
                    *state = LineState { printed_at: Instant::now(), printed_piece: done, unprinted: None };
                } else {
                    state.unprinted = Some(line);
                }
            }
        }
    }
}

/// Ends the task: prints its last details, and removes a bar without details.
impl Drop for Task {
    fn drop(&mut self) {
        match &self.view {
            View::Hidden => return,
            View::Bar(bar) => bar.finish(),
            View::Lines { out, state, .. } => {
                if let Some(line) = lock(state).unprinted.take() {
                    print_line(out, line.trim_end());
                }
            }
        }
        let done = self.done.load(Ordering::Relaxed).min(self.total);
        let seconds = self.began.elapsed().as_secs_f64();
        self.console.detail(&format!("{}: {done} of {} in {seconds:.1} s", self.name, self.total));
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn print_line(out: &Mutex<dyn Write + Send>, text: &str) {
    let _ = writeln!(lock(out), "{text}");
}

/// A duration in one or two units: `45 s`, `12 min`, `2 h 5 min`, `3 d 4 h`.
pub fn duration_for_people(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    let minutes = seconds.saturating_add(30) / 60;
    let hours = (minutes + 30) / 60;
    if seconds < 60 {
        format!("{seconds} s")
    } else if minutes < 60 {
        format!("{minutes} min")
    } else if minutes < 24 * 60 {
        with_remainder(minutes, 60, ["h", "min"])
    } else {
        with_remainder(hours, 24, ["d", "h"])
    }
}

/// Formats an amount in two units, such as `2 h 5 min`; without a remainder `2 h`.
fn with_remainder(amount: u64, per_unit: u64, [unit, smaller]: [&str; 2]) -> String {
    match (amount / per_unit, amount % per_unit) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, rest) => format!("{whole} {unit} {rest} {smaller}"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A writer that records what is written to it. For bars it is a terminal of 80 columns.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Recording(Arc<Mutex<String>>);

    impl Recording {
        pub(crate) fn append(&self, text: &str) {
            self.0.lock().unwrap().push_str(text);
        }

        pub(crate) fn text(&self) -> String {
            self.0.lock().unwrap().clone()
        }

        pub(crate) fn console(&self) -> Console {
            Console::plain(self.clone(), Verbosity::Normal)
        }
    }

    impl Write for Recording {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.append(str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Sets the interval between two lines of a task.
    fn at_interval(mut task: Task, time: Duration) -> Task {
        if let View::Lines { interval, .. } = &mut task.view {
            *interval = time;
        }
        task
    }

    /// The pieces at which a task prints lines if it describes each piece.
    fn described(first: u64, total: u64, pieces: impl IntoIterator<Item = u64>, interval: Duration) -> Vec<u64> {
        let recording = Recording::default();
        let task = at_interval(recording.console().task_with_details("training", first, total), interval);
        pieces.into_iter().for_each(|piece| task.describe(piece, &piece.to_string(), ""));
        drop(task);
        recording.text().lines().map(|line| line.parse().unwrap()).collect()
    }

    #[test]
    fn away_from_a_terminal_a_line_is_printed_when_the_last_one_is_old() {
        let recording = Recording::default();
        let task = recording.console().task("reading", 8);
        task.advance(2);
        assert_eq!(recording.text(), "");
        at_interval(task, Duration::ZERO).advance(2);
        assert_eq!(recording.text(), "reading  50 %\n");
    }

    #[test]
    fn details_are_printed_at_each_tenth_and_at_the_end() {
        assert_eq!(described(0, 105, 1..=105, Duration::MAX), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 105]);
        assert_eq!(described(0, 3, 1..=3, Duration::MAX), [1, 2, 3]);
        assert_eq!(described(980, 1000, 981..=985, Duration::MAX), [982, 984, 985]);
        assert_eq!(described(0, 4690, 1..=3, Duration::ZERO), [1, 2, 3]);
    }

    #[test]
    fn messages_are_printed_at_once() {
        let recording = Recording::default();
        recording.console().message("saved epoch-0001.png");
        assert_eq!(recording.text(), "saved epoch-0001.png\n");
    }

    #[test]
    fn quiet_keeps_warnings_and_verbose_adds_the_time_of_tasks() {
        let output_at = |verbosity| {
            let recording = Recording::default();
            let console = Console::plain(recording.clone(), verbosity);
            console.message("a message");
            console.warning("it is damaged");
            console.detail("a detail");
            console.task("reading", 8).advance(9);
            recording.text()
        };
        assert_eq!(output_at(Verbosity::Quiet), "warning: it is damaged\n");
        assert_eq!(output_at(Verbosity::Normal), "a message\nwarning: it is damaged\n");
        let verbose = output_at(Verbosity::Verbose);
        assert!(verbose.contains("a detail\n") && verbose.contains("reading: 8 of 8 in 0.0 s\n"), "{verbose}");
    }

    #[test]
    fn a_silent_console_accepts_all_calls() {
        let console = Console::silent();
        console.message("saved epoch-0001.png");
        console.warning("it is damaged");
        console.task("reading", 3).advance(5);
        console.task_with_details("training", 0, 3).describe(1, "step 1", "");
    }

    #[test]
    fn durations_are_rounded_to_two_units() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.4, "0 s"),
            (0.5, "1 s"),
            (59.4, "59 s"),
            (59.5, "1 min"),
            (89.0, "1 min"),
            (90.0, "2 min"),
            (3569.0, "59 min"),
            (3570.0, "1 h"),
            (7500.0, "2 h 5 min"),
            (86_369.0, "23 h 59 min"),
            (86_370.0, "1 d"),
            (100_000.0, "1 d 4 h"),
            (864_000.0, "10 d"),
        ] {
            let duration = Duration::from_secs_f64(seconds);
            assert_eq!(duration_for_people(duration), expected, "{seconds} s");
        }
        assert!(duration_for_people(Duration::MAX).contains(" d "));
    }
}
