//! How far a piece of work is that takes a while, on standard error: a bar on a terminal, now and then a line anywhere
//! else, and nothing where no one listens.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Away from a terminal a line is printed each time this much time has passed.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Who is told of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// The person who started the program.
    Person,
    /// No one.
    Nobody,
}

/// A piece of work of known size. Nothing here can fail: what cannot be shown is not.
pub struct Work {
    name: String,
    total: u64,
    done: u64,
    display: Display,
}

enum Display {
    Silent,
    Bar(ProgressBar),
    Lines(Box<dyn Write + Send>, Instant),
}

impl Audience {
    /// Begins to show work of `total` pieces.
    pub fn work(self, name: &str, total: u64) -> Work {
        let terminal = ProgressDrawTarget::stderr();
        let display = match self {
            Self::Nobody => Display::Silent,
            Self::Person if terminal.is_hidden() => Display::Lines(Box::new(io::stderr()), Instant::now()),
            Self::Person => Display::Bar(bar(name, total, terminal)),
        };
        Work { name: name.to_string(), total, done: 0, display }
    }

    /// Says something. Where no one reads it any more, the work goes on.
    pub fn line(self, text: &str) {
        if self == Self::Person {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }
}

impl Work {
    /// So many more pieces are done.
    pub fn advance(&mut self, pieces: u64) {
        self.done = (self.done + pieces).min(self.total);
        match &mut self.display {
            Display::Silent => {}
            Display::Bar(bar) => bar.set_position(self.done),
            Display::Lines(out, last) => {
                if last.elapsed() >= LINE_INTERVAL {
                    let percent = 100 * self.done / self.total.max(1);
                    let _ = writeln!(out, "{}  {percent} %", self.name);
                    *last = Instant::now();
                }
            }
        }
    }

    /// Whether there is nothing left to do.
    pub fn is_done(&self) -> bool {
        self.done == self.total
    }

    /// Takes the bar away: what comes of the work says more.
    pub fn finish(self) {
        if let Display::Bar(bar) = self.display {
            bar.finish_and_clear();
        }
    }
}

fn bar(name: &str, total: u64, target: ProgressDrawTarget) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix}  {wide_bar:.cyan/dim} {percent:>3} %  {eta}")
        .expect("the template is a constant, and a test draws it")
        .progress_chars("━╸─");
    ProgressBar::with_draw_target(Some(total), target).with_style(style).with_prefix(name.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::progress::tests::Paper;
    use super::*;

    fn work(display: Display) -> Work {
        Work { name: "looking".into(), total: 8, done: 0, display }
    }

    #[test]
    fn a_bar_shows_the_name_and_the_share_that_is_done() {
        let paper = Paper::default();
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let mut work = work(Display::Bar(bar("looking", 8, target)));
        work.advance(2);
        if let Display::Bar(bar) = &work.display {
            bar.force_draw();
        }
        let shown = paper.text();
        assert!(shown.contains("looking  ━") && shown.contains(" 25 %"), "{shown}");
        work.finish();
    }

    #[test]
    fn away_from_a_terminal_a_line_is_printed_when_the_last_one_is_old() {
        let paper = Paper::default();
        let mut work = work(Display::Lines(Box::new(paper.clone()), Instant::now()));
        work.advance(2);
        if let Display::Lines(_, last) = &mut work.display {
            *last -= LINE_INTERVAL;
        }
        work.advance(2);
        work.advance(2);
        assert_eq!(paper.text(), "looking  50 %\n");
    }

    #[test]
    fn more_than_all_is_all_and_silence_needs_nothing() {
        let mut work = Audience::Nobody.work("looking", 3);
        work.advance(5);
        assert_eq!(work.done, 3);
        work.finish();
    }
}
