//! Shows the reading of images on a console.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::data::Listener;
use crate::progress::{Console, Task};

/// A [`Listener`] that prints messages and shows a task.
pub(super) struct Reading {
    console: Console,
    task: Mutex<Option<(Task, usize)>>,
}

impl Reading {
    pub(super) fn new(console: &Console) -> Self {
        Self { console: console.clone(), task: Mutex::new(None) }
    }

    /// The task, and how many of its pieces are left.
    fn task(&self) -> MutexGuard<'_, Option<(Task, usize)>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Reading {
    fn remark(&self, line: &str) {
        self.console.message(line);
    }

    fn begin(&self, name: &str, all: usize) {
        *self.task() = Some((self.console.task(name, all as u64), all));
    }

    fn advance(&self) {
        let mut task = self.task();
        if let Some((task, left)) = &mut *task {
            task.advance(1);
            *left = left.saturating_sub(1);
        }
        task.take_if(|(_, left)| *left == 0);
    }
}
