//! The argument `--class`: a list of classes of a conditional run.

use std::path::Path;

use unicode_normalization::UnicodeNormalization;

use crate::data::listed_names;
use crate::error::{Error, Result, nearest};
use crate::train::{Checkpoint, ClassDistribution, classes};

/// The largest number of classes in a list, which is the largest number of classes of a model.
const MAX_CLASSES: usize = 256;

/// The list that stands for all classes, unless a class has this name.
const ALL: &str = "all";

/// The classes of the images that a command draws from a conditional model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RequestedClasses {
    /// Each seed draws a class.
    Drawn(ClassDistribution),
    /// The classes of a list, in its order.
    Listed(Vec<u8>),
}

impl RequestedClasses {
    /// The classes of a list such as `0-3,7`, `cats,dogs` or `all`. Without a list, each seed draws one. `None` if the model is not
    /// conditional.
    ///
    /// # Errors
    ///
    /// If a class does not exist, or a list is given for a model that is not conditional.
    pub(super) fn parse(list: Option<&str>, checkpoint: &Checkpoint, run: &Path) -> Result<Option<Self>> {
        match (checkpoint.class_distribution(), list) {
            (None, None) => Ok(None),
            (None, Some(list)) => Err(Error::Request {
                message: format!("--class {list}: {} is not conditional", run.display()),
                hint: "leave out --class; `gpu-gan train DATA --conditional` trains a conditional model".into(),
            }),
            (Some(distribution), None) => Ok(Some(Self::Drawn(distribution))),
            (Some(distribution), Some(list)) => {
                let classes = checkpoint.settings.classes.as_ref();
                let names = classes.map_or(&[][..], |classes| &classes.names);
                parse_list(list, distribution.weights().len(), names).map(Self::Listed).map(Some)
            }
        }
    }
}

/// The labels of a list of names, numbers and ranges, of `count` classes with these names or none. A range of names runs over the
/// classes in their order. Where all names are numbers, a number is a name; else it may be a label too. `all` is the list of all classes.
///
/// # Errors
///
/// If a class does not exist, a range runs backwards, or the list has more than 256 classes.
pub fn parse_list(list: &str, count: usize, names: &[String]) -> Result<Vec<u8>> {
    let there_are = match names {
        [] => format!("0 to {}", count - 1),
        names => format!("0 to {} ({})", count - 1, listed_names(names)),
    };
    let nearest_to = |word: &str| nearest(word, names.iter().map(String::as_str));
    let wrong = |what: String, nearest: Option<&str>| Error::Request {
        message: format!("--class {list}: {what}"),
        hint: match nearest {
            Some(name) => format!("did you mean `{name}`? The classes are {there_are}"),
            None => {
                format!("write classes and ranges with commas between them, such as 0-1; the classes are {there_are}")
            }
        },
    };
    let are_numbers = !names.is_empty() && names.iter().all(|name| name.parse::<i128>().is_ok());
    let find = |word: &str| {
        let word: String = word.trim().nfc().collect();
        let named = names.iter().position(|name| *name == word);
        let numbered = || word.parse().ok().filter(|&label: &usize| label < count && !are_numbers);
        named.or_else(numbered)
    };
    let class =
        |word: &str| find(word).ok_or_else(|| wrong(format!("`{}` is not a class", word.trim()), nearest_to(word)));
    // A name may have a hyphen in it, so a range is tried at each hyphen.
    let range = |part: &str| {
        find(part).map(|one| (one, one)).or_else(|| {
            let mut hyphens = part.match_indices('-').map(|(at, _)| (&part[..at], &part[at + 1..]));
            hyphens.find_map(|(first, last)| Some((find(first)?, find(last)?)))
        })
    };
    if list.trim() == ALL && find(ALL).is_none() {
        return Ok(classes::all(count));
    }
    let mut classes = Vec::new();
    let mut rest: Vec<&str> = list.split(',').collect();
    while !rest.is_empty() {
        // A name may have a comma in it, so the longest beginning that is one comes first.
        let found = (1..=rest.len()).rev().find_map(|parts| Some((parts, range(&rest[..parts].join(","))?)));
        let Some((parts, (first, last))) = found else {
            let (first, last) = rest[0].split_once('-').unwrap_or((rest[0], rest[0]));
            let wrong_end = if find(first).is_some() { last } else { first };
            let word = if nearest_to(rest[0]).is_some() { rest[0] } else { wrong_end };
            return Err(class(word)
                .err()
                .unwrap_or_else(|| wrong(format!("`{}` is not a class", rest[0].trim()), None)));
        };
        if first > last {
            return Err(wrong(format!("the range {} runs backwards", rest[..parts].join(",").trim()), None));
        }
        if classes.len() + last - first >= MAX_CLASSES {
            return Err(wrong(format!("more than {MAX_CLASSES} classes"), None));
        }
        classes.extend((first..=last).map(|class| class as u8));
        rest.drain(..parts);
    }
    Ok(classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbers_ranges_and_names_in_the_order_given() {
        let names = ["cats", "hot-dogs", "7"].map(String::from);
        assert_eq!(parse_list("7", 10, &[]).unwrap(), [7]);
        assert_eq!(parse_list("0-2, 9,1", 10, &[]).unwrap(), [0, 1, 2, 9, 1]);
        assert_eq!(parse_list("hot-dogs,0-1,7", 3, &names).unwrap(), [1, 0, 1, 2]);
        assert_eq!(parse_list("cats-hot-dogs", 3, &names).unwrap(), [0, 1]);
        assert_eq!(parse_list("hot-dogs-7", 3, &names).unwrap(), [1, 2]);
        assert_eq!(parse_list("0-255", 256, &[]).unwrap().len(), 256);
        assert_eq!(parse_list("all", 3, &names).unwrap(), [0, 1, 2]);
        assert_eq!(parse_list("all", 2, &["some", "all"].map(String::from)).unwrap(), [1]);
    }

    #[test]
    fn ranges_run_over_names_and_numeric_names_are_no_labels() {
        let letters: Vec<String> = (1..=26).map(|i| i.to_string()).collect();
        assert_eq!(parse_list("1-3,26", 26, &letters).unwrap(), [0, 1, 2, 25]);
        assert!(parse_list("0", 26, &letters).is_err() && parse_list("0-3", 26, &letters).is_err());
        let ages = ["-2", "0", "10"].map(String::from);
        assert_eq!(parse_list("-2-10", 3, &ages).unwrap(), [0, 1, 2]);
        assert_eq!(parse_list("-2,10", 3, &ages).unwrap(), [0, 2]);
    }

    #[test]
    fn names_may_have_commas_spaces_hyphens_and_accents() {
        let names = ["Größe, XL", "a-b", "b", "caf\u{e9} noir", "x"].map(String::from);
        assert_eq!(parse_list("Größe, XL,b", 5, &names).unwrap(), [0, 2]);
        assert!(parse_list("c", 5, &names).unwrap_err().hint().contains("(`Größe, XL`, "));
        assert_eq!(parse_list("b,Größe, XL-a-b", 5, &names).unwrap(), [2, 0, 1]);
        assert_eq!(parse_list("cafe\u{301} noir", 5, &names).unwrap(), [3]);
        assert_eq!(parse_list(" a-b - x ", 5, &names).unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn an_unknown_class_is_refused_with_the_known_ones() {
        let too_many = vec!["0-9"; 26].join(",");
        for list in ["", ",", "10", "-1", "3-1", "0-10", "cats", "1.5", &too_many] {
            let error = parse_list(list, 10, &[]).unwrap_err();
            assert!(error.to_string().starts_with("--class") && error.hint().contains("0 to 9"), "{list}: {error}");
        }
        let names = ["cats", "dogs"].map(String::from);
        assert!(parse_list("mice", 2, &names).unwrap_err().hint().ends_with("the classes are 0 to 1 (cats, dogs)"));
        let misspelt = parse_list("cats,dosg", 2, &names).unwrap_err();
        assert!(
            misspelt.to_string().contains("`dosg` is not a class") && misspelt.hint().contains("did you mean `dogs`?")
        );
    }
}
