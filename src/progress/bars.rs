//! Progress bars on a terminal.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};

/// The lines of a bar.
#[derive(Debug, Clone, Copy)]
pub(super) enum BarLayout {
    /// The name, the bar and the remaining time on one line, which is removed at the end.
    OneLine,
    /// The bar with the task's speed, and the details on a line below, which fits into 80 columns. Both stay at the end.
    WithDetails,
}

/// All bars of a terminal.
#[derive(Clone)]
pub(super) struct Bars(MultiProgress);

/// The bar of a task.
pub(super) struct Bar(ProgressBar);

impl Bars {
    /// The bars on standard error, if that is a terminal.
    pub(super) fn on_stderr() -> Option<Self> {
        let target = ProgressDrawTarget::stderr();
        if target.is_hidden() { None } else { Some(Self(MultiProgress::with_draw_target(target))) }
    }

    /// Prints a line above all bars.
    pub(super) fn print(&self, text: &str) {
        let _ = self.0.println(text);
    }

    /// Shows a bar of `total` pieces, of which `done` are done.
    pub(super) fn begin(&self, name: &str, total: u64, done: u64, layout: BarLayout) -> Bar {
        let (template, finish) = match layout {
            BarLayout::OneLine => ("{prefix}  {wide_bar:.cyan/dim} {percent:>3} %  {eta}", ProgressFinish::AndClear),
            BarLayout::WithDetails => {
                ("{wide_bar:.cyan/dim} {percent:>3} %  {prefix}\n{wide_msg}", ProgressFinish::Abandon)
            }
        };
        let style = ProgressStyle::with_template(template).expect("the template is a constant, and a test draws it");
        let bar = ProgressBar::hidden().with_style(style.progress_chars("━╸─")).with_finish(finish);
        bar.set_length(total);
        bar.set_position(done);
        bar.set_prefix(name.to_string());
        Bar(self.0.add(bar))
    }
}

impl Bar {
    /// Sets the number of finished pieces.
    pub(super) fn set_done(&self, done: u64) {
        self.0.set_position(done);
    }

    /// Replaces the name.
    pub(super) fn set_name(&self, name: &str) {
        self.0.set_prefix(name.to_string());
    }

    /// Replaces the line below the bar.
    pub(super) fn set_details(&self, details: &str) {
        self.0.set_message(details.to_string());
    }

    /// Ends the bar as its layout says.
    pub(super) fn finish(&self) {
        self.0.finish_using_style();
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use indicatif::TermLike;

    use super::*;
    use crate::progress::tests::Recording;
    use crate::progress::{Console, Sink, Verbosity, View};

    impl TermLike for Recording {
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

    /// A console that draws bars on the recording.
    fn terminal(recording: &Recording) -> Console {
        let target = ProgressDrawTarget::term_like(Box::new(recording.clone()));
        let bars = Bars(MultiProgress::with_draw_target(target));
        Console { verbosity: Verbosity::Normal, sink: Sink::Terminal(bars) }
    }

    #[test]
    fn a_bar_shows_the_name_and_the_share_that_is_done() {
        let recording = Recording::default();
        let task = terminal(&recording).task("reading", 8);
        task.advance(2);
        let View::Bar(bar) = &task.view else { panic!("no bar on a terminal") };
        bar.0.force_draw();
        let shown = recording.text();
        assert!(shown.contains("reading  ━") && shown.contains(" 25 %"), "{shown}");
    }

    #[test]
    fn messages_are_printed_above_the_bar() {
        let recording = Recording::default();
        let console = terminal(&recording);
        let task = console.task_with_details("training", 0, 4690);
        task.describe(2345, "step 2345/4690", "1312 images/s");
        console.message("saved epoch-0001.png");
        drop(task);
        let text: Vec<char> = recording.text().chars().filter(|&letter| letter != '\n').collect();
        let rows: Vec<String> = text.chunks(80).map(|row| row.iter().collect()).collect(); // each is filled to its end
        assert!(rows.iter().any(|row| row.trim_end() == "saved epoch-0001.png"), "{rows:?}");
        let [.., bar, details] = &rows[..] else { panic!("too little was drawn: {rows:?}") };
        assert!(bar.contains("━╸─") && bar.ends_with("  50 %  1312 images/s"), "{bar}");
        assert_eq!(details.trim_end(), "step 2345/4690");
    }
}
