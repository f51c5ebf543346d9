//! `--class`: images of which classes.

use std::path::Path;

use crate::error::{Error, Result};
use crate::train::{Checkpoint, classes};

/// The classes of a list such as `0-3,7` or `cats,dogs`, in that order; all of them where no list is given. `None` where the
/// model of the run is told none.
///
/// # Errors
///
/// Where there is no such class, or where there are no classes at all and a list is given.
pub(super) fn asked(list: Option<&str>, checkpoint: &Checkpoint, run: &Path) -> Result<Option<Vec<u8>>> {
    let Some(count) = checkpoint.model.classes else {
        return list.map_or(Ok(None), |list| {
            Err(Error::Request {
                message: format!("--class {list}: {} knows no classes", run.display()),
                hint: "leave --class out; a run that begins with `gpu-gan train DATA --conditional` knows them".into(),
            })
        });
    };
    let classes = checkpoint.settings.classes.as_ref();
    let names = classes.map_or(&[][..], |classes| &classes.names);
    list.map_or_else(|| Ok(classes::all(count)), |list| parse(list, count, names)).map(Some)
}

fn parse(list: &str, count: usize, names: &[String]) -> Result<Vec<u8>> {
    let there_are = match names {
        [] => format!("0 to {}", count - 1),
        names => format!("0 to {}, which are {}", count - 1, names.join(", ")),
    };
    let wrong = |what: String| Error::Request {
        message: format!("--class {list}: {what}"),
        hint: format!("write classes and ranges with commas between, such as 0-1; there are {there_are}"),
    };
    let class = |word: &str| {
        let word = word.trim();
        let named = names.iter().position(|name| name == word);
        let numbered = || word.parse().ok().filter(|&number: &usize| number < count);
        named.or_else(numbered).ok_or_else(|| wrong(format!("`{word}` is no class")))
    };
    let mut classes = Vec::new();
    for part in list.split(',') {
        // A name may have a hyphen in it.
        let (first, last) = match (class(part), part.split_once('-')) {
            (Err(_), Some((first, last))) => (class(first)?, class(last)?),
            (one, _) => one.map(|one| (one, one))?,
        };
        if first > last {
            return Err(wrong(format!("{} runs backwards", part.trim())));
        }
        if classes.len() + last - first >= MOST_ASKED {
            return Err(wrong(format!("more than {MOST_ASKED} classes")));
        }
        classes.extend((first..=last).map(|class| class as u8));
    }
    Ok(classes)
}

/// Each of all classes there can be, once.
const MOST_ASKED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbers_ranges_and_names_in_the_order_given() {
        let names = ["cats", "hot-dogs", "7"].map(String::from);
        assert_eq!(parse("7", 10, &[]).unwrap(), [7]);
        assert_eq!(parse("0-2, 9,1", 10, &[]).unwrap(), [0, 1, 2, 9, 1]);
        assert_eq!(parse("hot-dogs,0-1,7", 3, &names).unwrap(), [1, 0, 1, 2]);
        assert_eq!(parse("cats-hot-dogs", 3, &names).unwrap(), [0, 1]);
        assert_eq!(parse("hot-dogs-7", 3, &names).ok(), None);
        assert_eq!(parse("0-255", 256, &[]).unwrap().len(), 256);
    }

    #[test]
    fn what_is_no_class_is_refused_with_those_there_are() {
        for list in [
            "",
            ",",
            "10",
            "-1",
            "3-1",
            "0-10",
            "cats",
            "1.5",
            "0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,\
                     0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9,0-9",
        ] {
            let error = parse(list, 10, &[]).unwrap_err();
            assert!(error.to_string().starts_with("--class") && error.hint().contains("0 to 9"), "{list}: {error}");
        }
        let names = ["cats", "dogs"].map(String::from);
        assert!(parse("mice", 2, &names).unwrap_err().hint().ends_with("there are 0 to 1, which are cats, dogs"));
    }
}
