//! Shards: equal parts of numbered work, which the tasks of a cluster compute without communication.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The largest number of shards. It is less than the number of items of every list whose size does not depend on the request.
pub const MAX_SHARDS: usize = 10_000;
/// The largest number of missing shards that an error names.
const MAX_NAMED: usize = 8;

/// One of N equal parts of a list, written I/N with I from 1 to N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Shard {
    /// The number of shards.
    count: usize,
    /// The number of this shard, from 1 to `count`.
    index: usize,
}

impl Shard {
    /// The whole list as one shard.
    pub const WHOLE: Self = Self { count: 1, index: 1 };

    /// Shard `index` of `count`, counted from 1.
    ///
    /// # Errors
    ///
    /// If there is no such shard, or `count` is more than [`MAX_SHARDS`].
    pub fn new(index: usize, count: usize) -> Result<Self, String> {
        if !(1..=MAX_SHARDS).contains(&count) {
            return Err(format!("{count} shards are out of range 1..={MAX_SHARDS}"));
        }
        if !(1..=count).contains(&index) {
            return Err(format!(
                "shard {index}/{count} does not exist: shards are counted from 1, so choose 1/{count} to {count}/{count}"
            ));
        }
        Ok(Self { count, index })
    }

    /// The number of shards.
    pub fn count(self) -> usize {
        self.count
    }

    /// The part of a list of `len` items that belongs to this shard. The parts of all shards follow one another, and their sizes differ
    /// by at most one.
    pub fn range(self, len: usize) -> Range<usize> {
        let end = |index: usize| (index as u128 * len as u128 / self.count as u128) as usize;
        end(self.index - 1)..end(self.index)
    }

    /// Checks that every shard of `len` items has at least one of them. `items` names them in the plural.
    ///
    /// # Errors
    ///
    /// If there are more shards than items.
    pub fn check(self, len: usize, items: &str) -> Result<()> {
        if self.count <= len {
            return Ok(());
        }
        Err(Error::Request {
            message: format!("--shard {self}: {} shards are too many for {len} {items}", self.count),
            hint: format!("use at most {len} shards, or request more {items}"),
        })
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |word: &str| word.parse::<usize>().ok();
        let numbers = text.split_once('/').and_then(|(index, count)| Some((number(index)?, number(count)?)));
        let (index, count) = numbers.ok_or_else(|| format!("`{text}` is not a shard I/N, such as 1/4"))?;
        Self::new(index, count)
    }
}

impl TryFrom<String> for Shard {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Shard> for String {
    fn from(shard: Shard) -> Self {
        shard.to_string()
    }
}

/// The result of one shard, in a file.
#[derive(Debug)]
pub struct ShardFile<T> {
    /// The file.
    pub path: PathBuf,
    /// The shard.
    pub shard: Shard,
    /// The content of the file.
    pub content: T,
}

/// Sorts the results of all shards. `facts` lists what must be equal in all of them: a name such as "the seeds", and its value.
///
/// # Errors
///
/// If a shard is missing or occurs twice, the files are of different divisions, or a fact differs.
///
/// # Panics
///
/// If there is no file.
pub fn in_order<T>(
    mut files: Vec<ShardFile<T>>,
    facts: impl Fn(&T) -> Vec<(&'static str, String)>,
) -> Result<Vec<ShardFile<T>>> {
    let first = &files[0];
    let wanted = facts(&first.content);
    for file in &files[1..] {
        if file.shard.count != first.shard.count {
            return Err(refused(
                format!(
                    "{} is shard {}, but {} is shard {}",
                    file.path.display(),
                    file.shard,
                    first.path.display(),
                    first.shard
                ),
                "give the parts of one division: N of --shard I/N must be equal",
            ));
        }
        let found = facts(&file.content);
        if let Some(((name, value), (_, other))) = wanted.iter().zip(&found).find(|(wanted, found)| wanted != found) {
            return Err(refused(
                format!("{} and {} differ in {name}: {value} and {other}", first.path.display(), file.path.display()),
                "give parts of one checkpoint with the same settings; only --shard may differ",
            ));
        }
    }
    files.sort_by_key(|file| file.shard);
    let equal = files.windows(2).find(|pair| pair[0].shard == pair[1].shard);
    if let Some([one, other]) = equal {
        return Err(refused(
            format!("{} and {} are both shard {}", one.path.display(), other.path.display(), one.shard),
            "give each shard once",
        ));
    }
    let count = files[0].shard.count;
    let is_given = |index: &usize| files.binary_search_by_key(index, |file| file.shard.index).is_ok();
    let missing: Vec<String> = (1..=count).filter(|index| !is_given(index)).map(|i| format!("{i}/{count}")).collect();
    match &missing[..] {
        [] => Ok(files),
        [one] => Err(refused(
            format!("shard {one} is missing"),
            &format!("compute it with --shard {one}, and give all {count} parts"),
        )),
        many => {
            let named = many[..many.len().min(MAX_NAMED)].join(", ");
            let more = many.len().saturating_sub(MAX_NAMED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            Err(refused(
                format!("{} of {count} shards are missing: {named}{more}", many.len()),
                &format!("compute them with --shard, and give all {count} parts"),
            ))
        }
    }
}

/// Says which results are of another kind of device than the first one, so that they can differ in rounding. `device` gives the description
/// of the device. The number of threads of the CPU changes no bits.
pub fn other_device<T>(files: &[ShardFile<T>], device: impl Fn(&T) -> &str) -> Option<String> {
    let kind = |file: &ShardFile<T>| {
        if device(&file.content).starts_with("CPU,") { "CPU" } else { device(&file.content) }.to_string()
    };
    let (first, rest) = files.split_first()?;
    let other = rest.iter().find(|file| kind(file) != kind(first))?;
    Some(format!(
        "{} was computed on {}, and {} on {}: results of different devices can differ in rounding",
        first.path.display(),
        device(&first.content),
        other.path.display(),
        device(&other.content)
    ))
}

/// Parses the JSON description in a part. The format is checked before the description is read, as a description of another format may
/// have other entries.
///
/// # Errors
///
/// If it is no description, or of another format than `format`. The text is meant for [`damaged`].
pub(crate) fn parse_description<T: DeserializeOwned>(text: &str, format: u32) -> Result<T, String> {
    let wrong = |error: serde_json::Error| format!("its description is damaged: {error}");
    let description: serde_json::Value = serde_json::from_str(text).map_err(wrong)?;
    let found = description.get("format").and_then(serde_json::Value::as_u64);
    if found != Some(u64::from(format)) {
        let found = found.map_or("an unknown format".into(), |found| format!("format {found}"));
        return Err(format!("it is of {found}, and this version of gpu-gan reads format {format}"));
    }
    serde_json::from_value(description).map_err(wrong)
}

/// The error for a part that ends early or was changed. `what` says what is wrong with it.
pub fn damaged(path: &Path, what: &str) -> Error {
    refused(format!("{} cannot be used: {what}", path.display()), "copy the file again, or compute its shard again")
}

fn refused(message: String, hint: &str) -> Error {
    Error::Request { message, hint: hint.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shards_of_a_list_follow_one_another_and_are_equal_within_one_item() {
        for (len, count) in [(0, 1), (1, 1), (10, 3), (64, 64), (1_000_000, 7), (26_000, MAX_SHARDS)] {
            let mut next = 0;
            for index in 1..=count {
                let range = Shard::new(index, count).unwrap().range(len);
                assert_eq!(range.start, next);
                assert!(
                    (len / count..=len.div_ceil(count)).contains(&range.len()),
                    "{index}/{count} of {len}: {range:?}"
                );
                next = range.end;
            }
            assert_eq!(next, len);
        }
        assert_eq!(Shard::WHOLE.range(usize::MAX), 0..usize::MAX);
    }

    #[test]
    fn shards_are_counted_from_1_and_others_are_refused() {
        assert_eq!("2/4".parse::<Shard>().unwrap().to_string(), "2/4");
        for (text, error) in [
            ("0/4", "shard 0/4 does not exist: shards are counted from 1, so choose 1/4 to 4/4"),
            ("5/4", "shard 5/4 does not exist"),
            ("1/0", "0 shards are out of range 1..=10000"),
            ("1/10001", "10001 shards are out of range"),
            ("1", "`1` is not a shard I/N, such as 1/4"),
            ("-1/4", "`-1/4` is not a shard"),
            ("a/b", "`a/b` is not a shard"),
        ] {
            let said = text.parse::<Shard>().unwrap_err();
            assert!(said.starts_with(error), "{text}: {said}");
        }
    }

    #[test]
    fn another_kind_of_device_is_named_and_other_threads_are_not() {
        let files = |devices: &[&str]| -> Vec<ShardFile<String>> {
            let file = |(path, &device): (usize, &&str)| ShardFile {
                path: path.to_string().into(),
                shard: Shard::WHOLE,
                content: device.to_string(),
            };
            devices.iter().enumerate().map(file).collect()
        };
        let said = |devices: &[&str]| other_device(&files(devices), |device| device);
        assert_eq!(said(&["CPU, 2 threads", "CPU, 16 threads"]), None);
        assert_eq!(said(&["A (Vulkan)", "A (Vulkan)"]), None);
        let text = said(&["CPU, 2 threads", "CPU, 2 threads", "A (Vulkan)"]).unwrap();
        assert!(text.starts_with("0 was computed on CPU, 2 threads, and 2 on A (Vulkan): "), "{text}");
        assert!(said(&["A (Vulkan)", "B (Vulkan)"]).is_some());
    }

    #[test]
    fn files_are_sorted_and_each_shard_must_be_given_once() {
        let file = |name: &str, shard: &str, content: u32| ShardFile {
            path: name.into(),
            shard: shard.parse().unwrap(),
            content,
        };
        let sorted = |files: Vec<ShardFile<u32>>| in_order(files, |&step| vec![("the step", step.to_string())]);
        let files = sorted(vec![file("c", "3/3", 7), file("a", "1/3", 7), file("b", "2/3", 7)]).unwrap();
        assert_eq!(files.iter().map(|file| file.path.to_str().unwrap()).collect::<String>(), "abc");
        let many = |count: usize| vec![file("a", &format!("2/{count}"), 7)];
        for (files, error) in [
            (vec![file("a", "1/2", 7), file("b", "2/3", 7)], "b is shard 2/3, but a is shard 1/2"),
            (vec![file("a", "1/2", 7), file("b", "2/2", 8)], "a and b differ in the step: 7 and 8"),
            (vec![file("a", "1/2", 7), file("b", "1/2", 7)], "a and b are both shard 1/2"),
            (many(2), "shard 1/2 is missing"),
            (many(4), "3 of 4 shards are missing: 1/4, 3/4, 4/4"),
            (many(12), "11 of 12 shards are missing: 1/12, 3/12, 4/12, 5/12, 6/12, 7/12, 8/12, 9/12 and 3 more"),
        ] {
            let said = sorted(files).unwrap_err();
            assert_eq!(said.to_string(), error);
            assert!(!said.hint().is_empty());
        }
    }
}
