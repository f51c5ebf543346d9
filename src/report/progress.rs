//! How far training is, on standard error: a bar on a terminal, now and then a line anywhere else.

use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

use super::work::{Audience, Work};
use crate::data::Listener;

/// Away from a terminal a line is printed when this much time has passed since the last one,
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// or when one part in so many of the steps has been done, whichever is sooner.
const LINES_PER_RUN: u64 = 10;

/// What is going to be done.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The step that training ends with, counted from 1.
    pub total_steps: u64,
    /// The steps that were done before, when a run is resumed; else 0.
    pub start_step: u64,
    /// Steps from one epoch to the next.
    pub steps_per_epoch: u64,
    /// Images per step.
    pub batch_size: u64,
}

/// How training stands after a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// The step, counted from 1.
    pub step: u64,
    /// The epoch that the step belongs to, counted from 1.
    pub epoch: u64,
    /// The discriminator's loss.
    pub d_loss: f32,
    /// The generator's loss.
    pub g_loss: f32,
    /// `D(x)`: how real the discriminator finds real images, 0 to 1.
    pub d_real: f32,
    /// `D(G(z))`: how real it finds the generator's.
    pub d_fake: f32,
    /// How fast training goes; 0 where that is not known yet.
    pub images_per_second: f64,
}

/// Shows a person how far training is. Nothing here can fail: what cannot be shown is not.
pub struct Progress {
    plan: Plan,
    display: Display,
}

enum Display {
    Silent,
    Bar(ProgressBar),
    Lines(Lines),
}

impl Progress {
    /// A bar where standard error is a terminal that can draw one, else plain lines.
    pub fn new(plan: Plan) -> Self {
        let terminal = ProgressDrawTarget::stderr();
        if terminal.is_hidden() {
            Self::with_lines(plan, Box::new(io::stderr()), LINE_INTERVAL)
        } else {
            Self::with_bar(plan, terminal)
        }
    }

    /// Shows nothing.
    pub fn silent(plan: Plan) -> Self {
        Self { plan, display: Display::Silent }
    }

    /// Tells how training stands. Cheap enough to be called after every step.
    pub fn update(&mut self, status: &Status) {
        match &mut self.display {
            Display::Silent => {}
            Display::Bar(bar) => {
                bar.set_message(self.plan.standing(status));
                bar.set_prefix(self.plan.pace(status));
                bar.set_position(status.step);
            }
            Display::Lines(lines) => lines.update(&self.plan, status),
        }
    }

    /// Prints a line that stays, above the bar if there is one.
    pub fn line(&mut self, text: &str) {
        match &mut self.display {
            Display::Silent => {}
            Display::Bar(bar) => bar.println(text),
            Display::Lines(lines) => lines.print(text),
        }
    }

    /// Shows the last status, if it is not to be seen yet, and stops. A bar stays where it stands, full or not.
    pub fn finish(self) {
        match self.display {
            Display::Silent => {}
            Display::Bar(bar) => bar.abandon(),
            Display::Lines(mut lines) => lines.print_held_back(),
        }
    }

    fn with_bar(plan: Plan, target: ProgressDrawTarget) -> Self {
        // The numbers that matter most have a line of their own, which fits into 80 columns.
        let style = ProgressStyle::with_template("{wide_bar:.cyan/dim} {percent:>3} %  {prefix}\n{wide_msg}")
            .expect("the template is a constant, and a test draws it")
            .progress_chars("━╸─");
        let bar = ProgressBar::with_draw_target(Some(plan.total_steps), target)
            .with_style(style)
            .with_position(plan.start_step)
            .with_finish(ProgressFinish::Abandon); // an error is printed below the bar, not instead of it
        Self { plan, display: Display::Bar(bar) }
    }

    fn with_lines(plan: Plan, out: Box<dyn Write + Send>, interval: Duration) -> Self {
        let lines = Lines { out, interval, last_time: Instant::now(), last_step: plan.start_step, held_back: None };
        Self { plan, display: Display::Lines(lines) }
    }
}

/// Shows a person how far the reading of images is, and says what is remarkable about them.
#[derive(Default)]
pub struct Reading(Mutex<Option<Work>>);

impl Reading {
    /// Shows nothing before something begins.
    pub fn new() -> Self {
        Self::default()
    }

    fn work(&self) -> MutexGuard<'_, Option<Work>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Reading {
    fn remark(&self, line: &str) {
        Audience::Person.line(line);
    }

    fn begin(&self, name: &str, all: usize) {
        *self.work() = Some(Audience::Person.work(name, all as u64));
    }

    fn advance(&self) {
        let mut work = self.work();
        if let Some(work) = &mut *work {
            work.advance(1);
        }
        if let Some(work) = work.take_if(|work| work.is_done()) {
            work.finish();
        }
    }
}

/// Prints some of the statuses it gets, and holds the newest of the others back for the end.
struct Lines {
    out: Box<dyn Write + Send>,
    interval: Duration,
    last_time: Instant,
    last_step: u64,
    held_back: Option<String>,
}

impl Lines {
    fn update(&mut self, plan: &Plan, status: &Status) {
        self.held_back = Some(plan.line(status));
        let steps = status.step.saturating_sub(self.last_step);
        if steps >= plan.steps_per_line() || self.last_time.elapsed() >= self.interval {
            self.print_held_back();
            self.last_time = Instant::now();
            self.last_step = status.step;
        }
    }

    fn print_held_back(&mut self) {
        if let Some(line) = self.held_back.take() {
            self.print(&line);
        }
    }

    /// Where no one listens any more (`2>&1 | head`), training goes on.
    fn print(&mut self, text: &str) {
        let _ = writeln!(self.out, "{text}");
    }
}

impl Plan {
    /// `step 1200/4690  epoch  3/10  D 0.84  G 2.31  D(x) 0.71  D(G(z)) 0.28  1312 images/s  6 min left`
    fn line(&self, status: &Status) -> String {
        let line = format!("{}  {}", self.standing(status), self.pace(status));
        line.trim_end().into()
    }

    /// `step 1200/4690  epoch  3/10  D 0.84  G 2.31  D(x) 0.71  D(G(z)) 0.28`
    fn standing(&self, status: &Status) -> String {
        let step = out_of(status.step, self.total_steps);
        let epoch = out_of(status.epoch, self.total_steps.div_ceil(self.steps_per_epoch.max(1)));
        format!(
            "step {step}  epoch {epoch}  D {:.2}  G {:.2}  D(x) {:.2}  D(G(z)) {:.2}",
            status.d_loss, status.g_loss, status.d_real, status.d_fake
        )
    }

    /// `1312 images/s  6 min left`; empty where the pace is not known, and without the rest at the end.
    fn pace(&self, status: &Status) -> String {
        let rate = status.images_per_second;
        if !rate.is_finite() || rate <= 0.0 {
            return String::new();
        }
        let digits = usize::from(rate < 10.0);
        let images = self.total_steps.saturating_sub(status.step).saturating_mul(self.batch_size);
        match Duration::try_from_secs_f64(images as f64 / rate) {
            Ok(left) if images > 0 => format!("{rate:.digits$} images/s  {} left", duration_for_people(left)),
            _ => format!("{rate:.digits$} images/s"),
        }
    }

    fn steps_per_line(&self) -> u64 {
        (self.total_steps.saturating_sub(self.start_step) / LINES_PER_RUN).max(1)
    }
}

/// ` 3/10`: as wide at the start as at the end, so that what follows does not move.
fn out_of(done: u64, all: u64) -> String {
    let all = all.to_string();
    format!("{done:>width$}/{all}", width = all.len())
}

/// A duration as precisely as a person wants to know it: `45 s`, `12 min`, `2 h 5 min`, `3 d 4 h`.
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

/// `2 h 5 min`, and `2 h` rather than `2 h 0 min`.
fn with_remainder(amount: u64, per_unit: u64, [unit, smaller]: [&str; 2]) -> String {
    match (amount / per_unit, amount % per_unit) {
        (whole, 0) => format!("{whole} {unit}"),
        (whole, rest) => format!("{whole} {unit} {rest} {smaller}"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use indicatif::TermLike;

    use super::*;

    const PLAN: Plan = Plan { total_steps: 4690, start_step: 0, steps_per_epoch: 469, batch_size: 128 };

    fn status(step: u64) -> Status {
        Status {
            step,
            epoch: (step - 1) / PLAN.steps_per_epoch + 1,
            d_loss: 0.84,
            g_loss: 2.314,
            d_real: 0.706,
            d_fake: 0.28,
            images_per_second: 1312.4,
        }
    }

    /// What was printed, kept for the test while a `Progress` owns the other half.
    #[derive(Clone, Debug, Default)]
    pub(in crate::report) struct Paper(Arc<Mutex<String>>);

    impl Paper {
        fn append(&self, text: &str) {
            self.0.lock().unwrap().push_str(text);
        }

        pub(in crate::report) fn text(&self) -> String {
            self.0.lock().unwrap().clone()
        }

        /// The step of each line, its first number.
        fn steps(&self) -> Vec<u64> {
            let first_number = |line: &str| line.split(['/', ' ']).find_map(|word| word.parse().ok());
            self.text().lines().filter_map(first_number).collect()
        }
    }

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.append(str::from_utf8(bytes).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A terminal of 80 columns on which nothing is ever erased.
    impl TermLike for Paper {
        fn width(&self) -> u16 {
            80
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.append(&format!("{text}\n"));
            Ok(())
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.append(text);
            Ok(())
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn durations_are_as_precise_as_a_person_wants() {
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
    }

    #[test]
    fn no_duration_is_too_long() {
        assert!(duration_for_people(Duration::MAX).contains(" d "));
    }

    #[test]
    fn a_line_says_where_training_stands_and_how_long_it_takes() {
        assert_eq!(
            PLAN.line(&status(1200)),
            "step 1200/4690  epoch  3/10  D 0.84  G 2.31  D(x) 0.71  D(G(z)) 0.28  1312 images/s  6 min left"
        );
    }

    #[test]
    fn the_last_line_has_no_time_left() {
        assert!(PLAN.line(&status(4690)).ends_with("1312 images/s"));
    }

    #[test]
    fn a_pace_that_is_not_known_is_left_out() {
        for images_per_second in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let status = Status { images_per_second, ..status(1200) };
            assert!(PLAN.line(&status).ends_with("D(G(z)) 0.28"));
        }
    }

    #[test]
    fn a_slow_pace_has_a_digit_more_and_one_without_end_no_time() {
        let at_rate = |images_per_second| PLAN.pace(&Status { images_per_second, ..status(1200) });
        assert_eq!(at_rate(3.21), "3.2 images/s  1 d 15 h left");
        assert_eq!(at_rate(f64::MIN_POSITIVE), "0.0 images/s");
    }

    #[test]
    fn lines_come_at_every_tenth_and_at_the_end() {
        let paper = Paper::default();
        let plan = Plan { total_steps: 105, ..PLAN };
        let mut progress = Progress::with_lines(plan, Box::new(paper.clone()), Duration::MAX);
        (1..=105).for_each(|step| progress.update(&status(step)));
        progress.finish();
        assert_eq!(paper.steps(), [10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 105]);
    }

    #[test]
    fn the_end_is_printed_once() {
        let paper = Paper::default();
        let plan = Plan { total_steps: 3, ..PLAN };
        let mut progress = Progress::with_lines(plan, Box::new(paper.clone()), Duration::MAX);
        (1..=3).for_each(|step| progress.update(&status(step)));
        progress.finish();
        assert_eq!(paper.steps(), [1, 2, 3]);
    }

    #[test]
    fn a_resumed_run_has_a_line_at_every_tenth_of_what_is_left() {
        let paper = Paper::default();
        let plan = Plan { total_steps: 1000, start_step: 980, ..PLAN };
        let mut progress = Progress::with_lines(plan, Box::new(paper.clone()), Duration::MAX);
        (981..=985).for_each(|step| progress.update(&status(step)));
        progress.finish();
        assert_eq!(paper.steps(), [982, 984, 985]);
    }

    #[test]
    fn lines_also_come_when_time_has_passed() {
        let paper = Paper::default();
        let mut progress = Progress::with_lines(PLAN, Box::new(paper.clone()), Duration::ZERO);
        (1..=3).for_each(|step| progress.update(&status(step)));
        assert_eq!(paper.steps(), [1, 2, 3]);
    }

    #[test]
    fn other_lines_come_at_once() {
        let paper = Paper::default();
        let mut progress = Progress::with_lines(PLAN, Box::new(paper.clone()), Duration::MAX);
        progress.line("saved epoch-0001.png");
        assert_eq!(paper.text(), "saved epoch-0001.png\n");
    }

    #[test]
    fn a_bar_shows_the_last_status_in_80_columns_and_stays_where_it_is() {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let mut progress = Progress::with_bar(PLAN, target);
        progress.update(&status(1));
        progress.line("saved epoch-0001.png");
        progress.update(&status(2345));
        progress.finish();

        let text: Vec<char> = paper.text().chars().collect();
        let rows: Vec<String> = text.chunks(80).map(|row| row.iter().collect()).collect(); // each is filled to its end
        let [.., bar, numbers] = &rows[..] else {
            panic!("too little was drawn: {rows:?}");
        };
        assert!(rows.iter().any(|row| row.trim_end() == "saved epoch-0001.png"), "{rows:?}");
        assert!(bar.ends_with("━╸───────────────────────  50 %  1312 images/s  4 min left"), "{bar}");
        assert_eq!(numbers.trim_end(), PLAN.standing(&status(2345)));
    }

    #[test]
    fn the_numbers_fit_into_80_columns() {
        let plan = Plan { total_steps: 999_999, steps_per_epoch: 100, ..PLAN };
        let status = Status { step: 999_999, epoch: 9_999, ..status(1) };
        let standing = plan.standing(&status);
        assert!(standing.len() <= 80, "{standing}");
    }

    #[test]
    fn silence_takes_everything_and_needs_nothing() {
        let mut progress = Progress::silent(PLAN);
        progress.update(&status(1));
        progress.line("saved epoch-0001.png");
        progress.finish();
    }
}
