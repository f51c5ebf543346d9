//! The argument `--shard`: which part of the work this process does.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::shard::{MAX_SHARDS, Shard};

/// The variable in which Slurm tells a task its number.
const SLURM_TASK: &str = "SLURM_ARRAY_TASK_ID";
/// The variable in which Slurm tells a task the number of tasks.
const SLURM_COUNT: &str = "SLURM_ARRAY_TASK_COUNT";
/// The variable in which Slurm tells a task the smallest number of a task.
const SLURM_MIN: &str = "SLURM_ARRAY_TASK_MIN";
/// The variable in which Slurm tells a task the largest number of a task.
const SLURM_MAX: &str = "SLURM_ARRAY_TASK_MAX";
/// The variable in which Kubernetes tells a pod of an indexed Job its number, from 0.
const KUBERNETES_INDEX: &str = "JOB_COMPLETION_INDEX";

/// The value of `--shard`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ShardArgument {
    /// I/N.
    Given(Shard),
    /// `auto`, or `auto/N` with the number of shards: the environment tells the rest.
    Auto(Option<usize>),
}

impl FromStr for ShardArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let explained = |error: String| format!("{error}; write I/N with I from 1 to N, `auto`, or `auto/N`");
        match text.strip_prefix("auto") {
            Some("") => Ok(Self::Auto(None)),
            Some(rest) => {
                let count = rest.strip_prefix('/').and_then(|count| count.parse().ok());
                let count = count.ok_or_else(|| explained(format!("`{text}` is not a shard")))?;
                Shard::new(1, count).map(|_| Self::Auto(Some(count)))
            }
            None if text.contains('/') => text.parse().map(Self::Given),
            None => Err(explained(format!("`{text}` is not a shard"))),
        }
    }
}

impl ShardArgument {
    /// The shard, which the environment tells for `auto`.
    ///
    /// # Errors
    ///
    /// If the environment does not tell it, or contradicts itself or the argument.
    pub(super) fn shard(self) -> Result<Shard> {
        self.shard_in(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn shard_in(self, variable: impl Fn(&str) -> Option<String>) -> Result<Shard> {
        let count = match self {
            Self::Given(shard) => return Ok(shard),
            Self::Auto(count) => count,
        };
        let number = |name: &str| {
            let number = |value: String| {
                value
                    .trim()
                    .parse::<usize>()
                    .map_err(|_| refused(format!("{name} is `{value}`, which is not a number"), BY_HAND))
            };
            variable(name).map(number).transpose()
        };
        if let Some(task) = number(SLURM_TASK)? {
            let min = number(SLURM_MIN)?.unwrap_or(0);
            return of_slurm(task, number(SLURM_COUNT)?, min, number(SLURM_MAX)?, count);
        }
        if let Some(index) = number(KUBERNETES_INDEX)? {
            let count = count.ok_or_else(|| {
                refused(
                    format!("{KUBERNETES_INDEX} is {index}, but Kubernetes does not tell the number of shards"),
                    "give it as --shard auto/N, where N is the number of `completions` of the Job",
                )
            })?;
            return Shard::new(index.saturating_add(1), count).map_err(|_| {
                refused(
                    format!(
                        "{KUBERNETES_INDEX} is {index}, but --shard auto/{count} has the indices 0 to {}",
                        count - 1
                    ),
                    "give the number of `completions` of the Job as N of --shard auto/N",
                )
            });
        }
        Err(refused(
            format!("--shard auto: neither {SLURM_TASK} nor {KUBERNETES_INDEX} is set, so there is no job array"),
            BY_HAND,
        ))
    }
}

/// What to do where the environment does not tell the shard.
const BY_HAND: &str = "start the command in a job array (see docs/clusters.md), or give the shard, such as --shard 1/4";

/// The shard of a task of a job array, whose tasks have the numbers `min`, `min` + 1, ... `wanted` is N of `--shard auto/N`.
fn of_slurm(task: usize, count: Option<usize>, min: usize, max: Option<usize>, wanted: Option<usize>) -> Result<Shard> {
    let Some(count) = count.or(wanted) else {
        return Err(refused(
            format!("{SLURM_TASK} is {task}, but {SLURM_COUNT} is not set"),
            "give the number of tasks as --shard auto/N",
        ));
    };
    if let Some(wanted) = wanted.filter(|&wanted| wanted != count) {
        return Err(refused(
            format!("the job array has {count} tasks ({SLURM_COUNT}), but --shard auto/{wanted} needs {wanted}"),
            &format!("submit it with --array=1-{wanted}, or use --shard auto"),
        ));
    }
    // With gaps between the numbers, two tasks could take one shard.
    let is_consecutive = max.is_none_or(|max| max.checked_sub(min) == count.checked_sub(1));
    let index = task.checked_sub(min).filter(|&place| is_consecutive && place < count);
    let Some(place) = index else {
        let last = max.unwrap_or(min.saturating_add(count).saturating_sub(1));
        return Err(refused(
            format!(
                "task {task} of a job array of {count} tasks from {min} to {last}: the numbers are not consecutive"
            ),
            &format!("submit the job with consecutive numbers, such as --array=1-{count}"),
        ));
    };
    Shard::new(place + 1, count).map_err(|error| refused(error, &format!("use at most {MAX_SHARDS} tasks")))
}

fn refused(message: String, hint: &str) -> Error {
    Error::Request { message, hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(argument: &str, environment: &[(&str, &str)]) -> Result<String> {
        let variable =
            |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_string());
        argument.parse::<ShardArgument>().unwrap().shard_in(variable).map(|shard| shard.to_string())
    }

    fn slurm<'a>(task: &'a str, count: &'a str, min: &'a str, max: &'a str) -> Vec<(&'static str, &'a str)> {
        [(SLURM_TASK, task), (SLURM_COUNT, count), (SLURM_MIN, min), (SLURM_MAX, max)]
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    #[test]
    fn a_given_shard_does_not_depend_on_the_environment() {
        assert_eq!(resolved("2/4", &slurm("1", "9", "1", "9")).unwrap(), "2/4");
    }

    #[test]
    fn the_tasks_of_a_job_array_are_its_shards_from_any_first_number() {
        for (environment, shard) in [
            (slurm("1", "4", "1", "4"), "1/4"),
            (slurm("4", "4", "1", "4"), "4/4"),
            (slurm("0", "4", "0", "3"), "1/4"),
            (slurm("12", "3", "10", "12"), "3/3"),
            (slurm("2", "3", "", ""), "3/3"),
        ] {
            assert_eq!(resolved("auto", &environment).unwrap(), shard, "{environment:?}");
        }
        assert_eq!(resolved("auto/4", &slurm("3", "4", "1", "4")).unwrap(), "3/4");
        assert_eq!(resolved("auto/4", &slurm("3", "", "1", "")).unwrap(), "3/4");
    }

    #[test]
    fn an_indexed_job_of_kubernetes_counts_from_0_and_needs_the_number_of_shards() {
        assert_eq!(resolved("auto/4", &[(KUBERNETES_INDEX, "0")]).unwrap(), "1/4");
        assert_eq!(resolved("auto/4", &[(KUBERNETES_INDEX, "3")]).unwrap(), "4/4");
        let error = resolved("auto", &[(KUBERNETES_INDEX, "3")]).unwrap_err();
        assert!(error.to_string().ends_with("Kubernetes does not tell the number of shards"), "{error}");
        assert!(error.hint().contains("--shard auto/N, where N is the number of `completions`"), "{}", error.hint());
        let error = resolved("auto/4", &[(KUBERNETES_INDEX, "4")]).unwrap_err();
        assert!(error.to_string().ends_with("--shard auto/4 has the indices 0 to 3"), "{error}");
    }

    #[test]
    fn an_environment_that_contradicts_itself_is_refused() {
        for (argument, environment, error) in [
            ("auto", vec![], "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
            ("auto", slurm("x", "4", "1", "4"), "SLURM_ARRAY_TASK_ID is `x`, which is not a number"),
            ("auto", slurm("1", "", "1", "4"), "SLURM_ARRAY_TASK_COUNT is not set"),
            ("auto/5", slurm("1", "4", "1", "4"), "the job array has 4 tasks"),
            ("auto", slurm("3", "3", "1", "7"), "task 3 of a job array of 3 tasks from 1 to 7"),
            ("auto", slurm("5", "4", "1", "4"), "task 5 of a job array of 4 tasks from 1 to 4"),
            ("auto", slurm("4", "4", "", ""), "task 4 of a job array of 4 tasks from 0 to 3"),
            ("auto", slurm("1", "10001", "1", "10001"), "10001 shards are out of range"),
        ] {
            let said = resolved(argument, &environment).unwrap_err();
            assert!(said.to_string().contains(error) && !said.hint().is_empty(), "{said}");
        }
    }

    #[test]
    fn other_values_are_wrong_usage() {
        for (text, error) in [
            ("0/4", "shards are counted from 1, so choose 1/4 to 4/4"),
            ("5/4", "shard 5/4 does not exist"),
            ("4", "`4` is not a shard; write I/N with I from 1 to N, `auto`, or `auto/N`"),
            ("auto/0", "0 shards are out of range"),
            ("auto/x", "`auto/x` is not a shard"),
            ("automatic", "`automatic` is not a shard"),
            ("1/x", "`1/x` is not a shard I/N"),
        ] {
            let said = text.parse::<ShardArgument>().unwrap_err();
            assert!(said.contains(error), "{text}: {said}");
        }
    }
}
