//! `--class`: the classes of images of a conditional run.

use std::path::Path;

use crate::error::{Error, Result};
use crate::train::{Checkpoint, classes};

/// The most classes of a list: each of all possible classes once.
const MOST_CLASSES: usize = 256;

/// The classes of a list such as `0-3,7` or `cats,dogs`, in that order; all classes if there is no list. `None` if the model is not
/// conditional.
///
/// # Errors
///
/// If a class does not exist, or a list is given for a model that is not conditional.
pub(super) fn parse_classes(list: Option<&str>, checkpoint: &Checkpoint, run: &Path) -> Result<Option<Vec<u8>>> {
    let Some(count) = checkpoint.model.classes else {
        return list.map_or(Ok(None), |list| {
            Err(Error::Request {
                message: format!("--class {list}: {} is not conditional", run.display()),
                hint: "leave out --class; `gpu-gan train DATA --conditional` trains a conditional model".into(),
            })
        });
    };
    let classes = checkpoint.settings.classes.as_ref();
    let names = classes.map_or(&[][..], |classes| &classes.names);
    list.map_or_else(|| Ok(classes::all(count)), |list| parse_list(list, count, names)).map(Some)
}

fn parse_list(list: &str, count: usize, names: &[String]) -> Result<Vec<u8>> {
    let known = match names {
        [] => format!("0 to {}", count - 1),
        names => format!("0 to {} ({})", count - 1, names.join(", ")),
    };
    let wrong = |what: String| Error::Request {
        message: format!("--class {list}: {what}"),
        hint: format!("write classes and ranges with commas between them, such as 0-1; the classes are {known}"),
    };
    let class = |word: &str| {
        let word = word.trim();
        let named = names.iter().position(|name| name == word);
        let numbered = || word.parse().ok().filter(|&number: &usize| number < count);
        named.or_else(numbered).ok_or_else(|| wrong(format!("`{word}` is not a class")))
    };
    let mut classes = Vec::new();
    for part in list.split(',') {
        // A name may have a hyphen in it.
        let (first, last) = match (class(part), part.split_once('-')) {
            (Err(_), Some((first, last))) => (class(first)?, class(last)?),
            (one, _) => one.map(|one| (one, one))?,
        };
        if first > last {
            return Err(wrong(format!("the range {} runs backwards", part.trim())));
        }
        if classes.len() + last - first >= MOST_CLASSES {
            return Err(wrong(format!("more than {MOST_CLASSES} classes")));
        }
        classes.extend((first..=last).map(|class| class as u8));
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
        assert_eq!(parse_list("hot-dogs-7", 3, &names).ok(), None);
        assert_eq!(parse_list("0-255", 256, &[]).unwrap().len(), 256);
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
    }
}
